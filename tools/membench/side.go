package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// side is a process that answers questions.
type side struct {
	cmd    *exec.Cmd
	ask    io.WriteCloser
	answer *bufio.Scanner
}

// open starts a program that answers.
func open(program string, args ...string) (*side, error) {
	s := &side{cmd: exec.Command(program, args...)}
	var complaints strings.Builder
	s.cmd.Stderr = &complaints
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.ask, s.answer = in, bufio.NewScanner(out)
	return s, nil
}

// number asks a question.
func (s *side) number(question string) (float64, error) {
	if _, err := fmt.Fprintln(s.ask, question); err != nil {
		return 0, fmt.Errorf("%s: asking: %w", question, err)
	}
	if !s.answer.Scan() {
		return 0, fmt.Errorf("%s: no answer: %w", question, errors.Join(s.answer.Err(), io.ErrUnexpectedEOF))
	}
	text := s.answer.Text()
	if why, ok := strings.CutPrefix(text, "error "); ok {
		return 0, fmt.Errorf("%s: %s", question, why)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", question, err)
	}
	return n, nil
}

// close ends the process, which gives its memory back.
func (s *side) close() error {
	s.ask.Close()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w: %s", s.cmd.Args, err, s.cmd.Stderr)
	}
	return nil
}
