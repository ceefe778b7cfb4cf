package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
)

// mutant is one change to one file: bytes [from, to) become with.
type mutant struct {
	file     string
	line     int
	from, to int
	with     string
	what     string // for people
}

// swaps are the operators that are exchanged. Each is the mistake next door: a
// bound off by one, a test turned round, a sum for a difference.
var swaps = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.AND: token.OR, token.OR: token.AND,
}

// collect finds all mutants of the package in dir as it is built here.
func collect(dir string) (all []mutant, err error) {
	pkg, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	for _, name := range pkg.GoFiles {
		path := filepath.Join(dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		found, err := mutantsOf(path, src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func mutantsOf(path string, src []byte) (all []mutant, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	add := func(from, to token.Pos, with, format string, args ...any) {
		p, q := fset.Position(from), fset.Position(to)
		all = append(all, mutant{path, p.Line, p.Offset, q.Offset, with, fmt.Sprintf(format, args...)})
	}
	text := func(n ast.Node) string {
		return string(src[fset.Position(n.Pos()).Offset:fset.Position(n.End()).Offset])
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if to, ok := swaps[n.Op]; ok {
				end := n.OpPos + token.Pos(len(n.Op.String()))
				add(n.OpPos, end, to.String(), "%s for %s in %s", to, n.Op, text(n))
			}
		case *ast.ExprStmt:
			if call, ok := n.X.(*ast.CallExpr); ok && !isPanic(call) {
				add(n.Pos(), n.End(), "{}", "the loss of %s", text(n))
			}
		}
		return true
	})
	return all, nil
}

// isPanic: without its panic a function often does not compile, and tests do
// not reach what must not happen.
func isPanic(c *ast.CallExpr) bool {
	f, ok := c.Fun.(*ast.Ident)
	return ok && f.Name == "panic"
}

// apply returns the source with the change made.
func (m mutant) apply(src []byte) []byte {
	changed := append([]byte{}, src[:m.from]...)
	changed = append(changed, m.with...)
	return append(changed, src[m.to:]...)
}
