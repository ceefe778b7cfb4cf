// Command checkunsafe checks the house rules that gofmt, vet and staticcheck do
// not know, for all Go files below the directories it is given:
//
//   - unsafe is imported only in files named *_unsafe.go or *_unsafe_test.go, so
//     that all of it can be found and read in one sitting;
//   - no file has more than 500 lines;
//   - no comment leaves work open.
//
// It prints a line per finding and exits 1 if there is any.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const maxLines = 500

// open matches what people write when they mean to come back. The words are
// taken apart here so that a plain search over the tree finds none.
var open = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

func main() {
	dirs := os.Args[1:]
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	bad := false
	for _, dir := range dirs {
		findings, err := checkTree(dir)
		for _, f := range findings {
			fmt.Println(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "checkunsafe:", err)
		}
		bad = bad || err != nil || len(findings) > 0
	}
	if bad {
		os.Exit(1)
	}
}

// checkTree checks the Go files below dir, but for those that the go command
// itself does not see.
func checkTree(dir string) (findings []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(name, ".") || name == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, err := checkFile(path, src)
		findings = append(findings, found...)
		return err
	})
	return findings, err
}

func checkFile(path string, src []byte) (findings []string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	say := func(n ast.Node, format string, args ...any) {
		at := fset.Position(n.Pos())
		findings = append(findings, fmt.Sprintf("%s:%d: %s", path, at.Line, fmt.Sprintf(format, args...)))
	}
	for _, i := range file.Imports {
		if i.Path.Value == `"unsafe"` && !mayUseUnsafe(path) {
			say(i, "unsafe may be imported only in *_unsafe.go and *_unsafe_test.go")
		}
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if word := open.FindString(c.Text); word != "" {
				say(c, "%s: finish it, or say what is so and why", word)
			}
		}
	}
	if n := bytes.Count(src, []byte("\n")); n > maxLines {
		say(file.Name, "%d lines, more than %d: split the file along a seam of meaning", n, maxLines)
	}
	return findings, nil
}

// mayUseUnsafe also allows a suffix for the platform: ring_unsafe_arm64.go.
func mayUseUnsafe(path string) bool {
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".go"), "_test")
	for _, platform := range []string{"", "_amd64", "_arm64", "_linux"} {
		if base, ok := strings.CutSuffix(name, platform); ok && strings.HasSuffix(base, "_unsafe") {
			return true
		}
	}
	return false
}
