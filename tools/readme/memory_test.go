package readme

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/memory.md and docs/sharing.md may name between backquotes, and is held to.
var (
	span       = regexp.MustCompile("`([^`]+)`")
	testName   = regexp.MustCompile(`^([a-z][a-z0-9/-]*): ((?:Test|Fuzz|Example|Benchmark)\w*)$`)
	identifier = regexp.MustCompile(`^(memfd|memflag|memtable|dma|virtio|vhost)\.([A-Z]\w*(?:\.[A-Z]\w*)?)$`)
	target     = regexp.MustCompile(`^make ([a-z-]+)$`)
)

// packages knows what the packages of the module declare.
type packages map[string]map[string]bool

// of gives the names in a directory: functions, types, values, and Type.Name for
// methods and fields.
func (p packages) of(dir string) map[string]bool {
	if names, ok := p[dir]; ok {
		return names
	}
	names := make(map[string]bool)
	files, _ := filepath.Glob(filepath.Join(root, dir, "*.go"))
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // the compiler has more to say about it
		}
		for _, d := range f.Decls {
			declared(d, names)
		}
	}
	p[dir] = names
	return names
}

// declared adds what d declares.
func declared(d ast.Decl, names map[string]bool) {
	if f, ok := d.(*ast.FuncDecl); ok {
		names[receiver(f)+f.Name.Name] = true
		return
	}
	for _, s := range d.(*ast.GenDecl).Specs {
		switch s := s.(type) {
		case *ast.ValueSpec:
			for _, n := range s.Names {
				names[n.Name] = true
			}
		case *ast.TypeSpec:
			names[s.Name.Name] = true
			members(s, names)
		}
	}
}

// members adds the fields of a struct and the methods of an interface.
func members(s *ast.TypeSpec, names map[string]bool) {
	var list *ast.FieldList
	switch t := s.Type.(type) {
	case *ast.StructType:
		list = t.Fields
	case *ast.InterfaceType:
		list = t.Methods
	default:
		return
	}
	for _, f := range list.List {
		for _, n := range f.Names {
			names[s.Name.Name+"."+n.Name] = true
		}
	}
}

// receiver gives "Type." for a method.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	name, _ := t.(*ast.Ident)
	return fmt.Sprint(name, ".")
}

// pathOf gives the directory of a package.
func pathOf(name string) string {
	if name == "memflag" {
		return "memfd/memflag"
	}
	return name
}

// wrongIn tells what a page claims and the module does not have.
func wrongIn(page, makefile string, p packages) (wrong []string) {
	for _, m := range span.FindAllStringSubmatch(page, -1) {
		said := m[1]
		switch {
		case testName.MatchString(said):
			if t := testName.FindStringSubmatch(said); !p.of(t[1])[t[2]] {
				wrong = append(wrong, "there is no such test: "+said)
			}
		case identifier.MatchString(said):
			if i := identifier.FindStringSubmatch(said); !p.of(pathOf(i[1]))[i[2]] {
				wrong = append(wrong, "there is no such name: "+said)
			}
		case target.MatchString(said):
			if t := target.FindStringSubmatch(said); !strings.Contains(makefile, "\n"+t[1]+":") {
				wrong = append(wrong, "there is no such target: "+said)
			}
		}
	}
	for row := range strings.Lines(page) {
		if why := wrongRow(strings.TrimSpace(row)); why != "" {
			wrong = append(wrong, why+": "+row)
		}
	}
	return wrong
}

// wrongRow wants the last cell of a row to name what shows it, or a reason.
func wrongRow(row string) string {
	cells := strings.Split(strings.Trim(row, "|"), "|")
	last := strings.TrimSpace(cells[len(cells)-1])
	switch {
	case !strings.HasPrefix(row, "|"), strings.HasPrefix(last, "--"), strings.HasPrefix(last, "shown by"):
		return "" // no row, or the head of a table
	case strings.HasPrefix(last, "left out: "):
		return ""
	}
	for _, m := range span.FindAllStringSubmatch(last, -1) {
		if testName.MatchString(m[1]) || target.MatchString(m[1]) {
			return ""
		}
	}
	return "no test shows it and there is no reason"
}

func TestThePageAboutMemoryNamesWhatThereIs(t *testing.T) {
	page := read(t, "docs/memory.md")
	for _, wrong := range wrongIn(page, read(t, "Makefile"), packages{}) {
		t.Error(wrong)
	}
	if rows := strings.Count(page, "\n|"); rows < 60 {
		t.Errorf("the page has %d rows", rows)
	}
}

func TestThePageAboutSharingNamesWhatThereIs(t *testing.T) {
	for _, wrong := range wrongIn(read(t, "docs/sharing.md"), read(t, "Makefile"), packages{}) {
		t.Error(wrong)
	}
}

func TestAPageThatPromisesTooMuchIsFound(t *testing.T) {
	const head = "| DPDK | here | shown by |\n|---|---|---|\n"
	makefile := "\ntest: build\n"
	for page, wrong := range map[string]bool{
		"| x | `memfd.New` | `memfd: ExampleArena_Heap` |":                         false,
		"| x | `memfd.Options.Limit` | `make test` |":                              false,
		"| x | `memfd.Arena.Heap`, `memtable.Mirror.Arrive` | left out: no need |": false,
		"| x | `--flag` | left out: no need |":                                     false,
		"| x | `memfd.Nowhere` | `make test` |":                                    true,
		"| x | `memfd.Options.Nothing` | `make test` |":                            true,
		"| x | y | `memfd: TestNothing` |":                                         true,
		"| x | y | `nowhere: TestEveryPageCanBeReadHereAndThroughItsFile` |":       true,
		"| x | y | `make nothing` |":                                               true,
		"| x | y | |":                                                              true,
		"| x | y | somebody says so |":                                             true,
	} {
		got := wrongIn(head+page+"\n", makefile, packages{})
		if wrong != (len(got) > 0) {
			t.Errorf("%s: %q", page, got)
		}
	}
}
