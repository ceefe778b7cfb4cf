package qemutest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
)

// QMP is a connection to QEMU's monitor (the QEMU Machine Protocol).
type QMP struct {
	conn net.Conn
	turn sync.Mutex // one command at a time
	// answer gets the answer of the command that waits; closed at the end.
	answer chan qmpLine
}

// qmpLine is any message of QEMU: a greeting, an event or an answer.
type qmpLine struct {
	Event  string          `json:"event"`
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// newQMP takes over a connection and makes the monitor take commands.
func newQMP(ctx context.Context, conn net.Conn) (*QMP, error) {
	q := &QMP{conn: conn, answer: make(chan qmpLine, 1)}
	go q.read()
	return q, q.Do(ctx, "qmp_capabilities", nil, nil)
}

func (q *QMP) read() {
	defer close(q.answer)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l qmpLine
		if err := json.Unmarshal(lines.Bytes(), &l); err == nil && l.QMP == nil && l.Event == "" {
			q.answer <- l
		}
	}
}

// Do carries out a command and decodes what it returns into result, unless nil.
func (q *QMP) Do(ctx context.Context, command string, args, result any) error {
	q.turn.Lock()
	defer q.turn.Unlock()
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case <-ctx.Done():
		q.conn.Close() // a late answer must not be taken for the next one's
		return fmt.Errorf("QMP %s: %w", command, context.Cause(ctx))
	case l, ok := <-q.answer:
		switch {
		case !ok:
			return fmt.Errorf("QMP %s: QEMU has closed the monitor", command)
		case l.Error != nil:
			return fmt.Errorf("QMP %s: %s", command, l.Error.Desc)
		case result != nil:
			return json.Unmarshal(l.Return, result)
		}
		return nil
	}
}
