package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// located puts file, line and column before the decoder's words.
func located(path string, err error) error {
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var all []error
		for i := range missing.Errors {
			e := &missing.Errors[i]
			all = append(all, &Error{Origin: place(path, e), Err: fmt.Errorf("there is no option %q here", e.Key()[len(e.Key())-1])})
		}
		return errors.Join(all...)
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		return &Error{Origin: place(path, e), Err: plain(e)}
	}
	return &Error{Origin: path, Err: err}
}

// plain leaves the names of our types out of the decoder's words.
func plain(e *toml.DecodeError) error {
	kind, mistyped := strings.CutPrefix(e.Error(), "toml: cannot decode TOML ")
	if kind, _, ok := strings.Cut(kind, " into "); ok && mistyped && len(e.Key()) > 0 {
		return fmt.Errorf("option %s: does not take a TOML %s", e.Key()[len(e.Key())-1], kind)
	}
	return e
}

func place(path string, e *toml.DecodeError) string {
	line, column := e.Position()
	return fmt.Sprintf("%s:%d:%d", path, line, column)
}

// positions knows where keys stand in a file whose syntax is right. Tables
// that are written inline are not found, and are told with the file alone.
type positions struct {
	path string
	of   map[key]unstable.Position
}

// key is an option in the nth table of a name; no option is the table's head.
type key struct {
	table  string
	n      int
	option string
}

func positionsOf(path string, text []byte) positions {
	at := positions{path, make(map[key]unstable.Position)}
	var parser unstable.Parser
	parser.Reset(text)
	var table string
	count := make(map[string]int)
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, where := first(&parser, e)
			table = name
			at.of[key{table, count[table], ""}] = where
			count[table]++
		case unstable.KeyValue:
			option, where := first(&parser, e)
			at.of[key{table, count[table] - 1, option}] = where
		}
	}
	return at
}

// first is the first part of an expression's key, and where it stands.
func first(p *unstable.Parser, e *unstable.Node) (string, unstable.Position) {
	keys := e.Key()
	keys.Next()
	return string(keys.Node().Data), p.Shape(keys.Node().Raw).Start
}

// find gives "file:line:column" of an option, or of its table.
func (at positions) find(table string, n int, option string) string {
	for _, o := range []string{option, ""} {
		if where, ok := at.of[key{table, n, o}]; ok {
			return fmt.Sprintf("%s:%d:%d", at.path, where.Line, where.Column)
		}
	}
	return at.path
}
