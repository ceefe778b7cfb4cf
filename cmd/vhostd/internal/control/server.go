package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Source is what the server tells about. Lists are of one port, or with an
// empty name of all, in the order of their configuration; ports without a
// front-end are left out where there is nothing to tell. The methods are called
// from many goroutines.
type Source interface {
	Names() []string
	Ports(port string) []Port
	Memory(port string) []Memory
	Queues(port string) []Queues
	MACs(port string) []MAC
	Stats(port string) []Stats
	Messages(port string) []Messages
	Disks(port string) []Disk

	// Resize asks for a disk's size anew and tells its guest.
	Resize(port string) (Disk, error)
}

// List is the answer of every path.
type List[T any] struct {
	Time  time.Time `json:"time"` // the daemon's
	Items []T       `json:"items"`
}

// refusal is the body of an answer that is none.
type refusal struct {
	Error string `json:"error"`
}

// Bounds on what a client can make the daemon hold. Who may open the socket is
// trusted to look, not to stay.
const (
	headerTimeout = 5 * time.Second
	answerTimeout = 30 * time.Second
	idleTimeout   = time.Minute
	headerBytes   = 16 << 10
)

// Serve answers on l until ctx ends, and closes l. A question that makes the
// daemon fail costs its asker the answer, and is logged.
func Serve(ctx context.Context, l net.Listener, src Source, log *slog.Logger) error {
	s := &http.Server{
		Handler:           Handler(src),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Handler answers for src.
func Handler(src Source) http.Handler {
	mux := http.NewServeMux()
	handle(mux, src, "ports", src.Ports)
	handle(mux, src, "mem", src.Memory)
	handle(mux, src, "queues", src.Queues)
	handle(mux, src, "mac", src.MACs)
	handle(mux, src, "stats", src.Stats)
	handle(mux, src, "messages", src.Messages)
	handle(mux, src, "disks", src.Disks)
	mux.HandleFunc("POST /v1/resize", func(w http.ResponseWriter, r *http.Request) {
		disk, err := src.Resize(r.URL.Query().Get("port"))
		if err != nil {
			write(w, http.StatusConflict, refusal{err.Error()})
			return
		}
		write(w, http.StatusOK, List[Disk]{time.Now(), []Disk{disk}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusNotFound, refusal{fmt.Sprintf("no %s %s; there are GET /v1/ports, "+
			"/v1/mem, /v1/queues, /v1/mac, /v1/stats, /v1/messages and /v1/disks, each with ?port=NAME, "+
			"and POST /v1/resize?port=NAME", r.Method, r.URL.Path)})
	})
	return mux
}

// handle answers GET /v1/what with the list that get makes.
func handle[T any](mux *http.ServeMux, src Source, what string, get func(port string) []T) {
	mux.HandleFunc("GET /v1/"+what, func(w http.ResponseWriter, r *http.Request) {
		port := r.URL.Query().Get("port")
		if names := src.Names(); port != "" && !slices.Contains(names, port) {
			write(w, http.StatusNotFound, refusal{fmt.Sprintf(
				"no port is named %q; there are %s", port, strings.Join(names, ", "))})
			return
		}
		list := List[T]{time.Now(), get(port)}
		if list.Items == nil {
			list.Items = []T{} // [], not null
		}
		write(w, http.StatusOK, list)
	})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	// An error means that the client is gone or its time is up: there is nobody
	// left to tell.
	_ = e.Encode(body)
}
