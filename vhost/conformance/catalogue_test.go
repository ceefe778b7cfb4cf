package conformance

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Where rules are proved, and where the table of them is. Rules of the
// front-end, whose number begins with F, are beside its code.
var folders = []string{".", "../../cmd/vhostd/internal/fabric", ".."}

const (
	table = "../../docs/conformance.md"
	// rules 1 to needed must be in the table; those behind came up on the way.
	needed      = 120
	neededFront = 46
)

// set is a list of rules, by number.
type set struct {
	mark   string // before each number
	needed int
	later  map[int]rule
	proved map[int]*rule
}

// sets are the rules of the two ends.
func sets() []*set {
	return []*set{
		{needed: needed, later: later, proved: make(map[int]*rule)},
		{mark: "F", needed: neededFront, later: noMigration, proved: make(map[int]*rule)},
	}
}

// noMigration are the front-end's rules about guests that move to another host,
// or translate addresses. A process does neither.
var noMigration = map[int]rule{
	33: {source: "QEMU 7.2", text: "A migration is refused without LOG_SHMFD or LOG_ALL.", later: "a process does not migrate"},
	34: {source: "QEMU 7.2", text: "The dirty log is given first, then LOG_ALL, then the rings' flags, each acknowledged.", later: "a process does not migrate"},
	35: {source: "vhost-user, Migration", text: "The dirty log is large enough for the highest address, and is given anew when memory grows.", later: "a process does not migrate"},
	36: {source: "vhost-user, Migration", text: "Dirty pages are collected after all rings were stopped.", later: "a process does not migrate"},
	37: {source: "QEMU 7.2", text: "SEND_RARP is sent only if the driver does not announce itself.", later: "a process does not migrate"},
	43: {source: "vhost-user, IOMMU support", text: "Ring pages are translated at the start, and invalidations are acknowledged before pages are used again.", later: "addresses are not translated"},
	46: {source: "vhost-user, VRING_HOST_NOTIFIER_MSG", text: "A notification area has the size of a page, and is dropped when its ring stops.", later: "no area is mapped: HOST_NOTIFIER is never agreed on"},
}

// rule is a row of the table: what the comment of its test says, or what later
// says of it.
type rule struct {
	star, source, text string
	tests              []string
	later              string // why there is no test yet
}

// later are the rules about what the back-end neither has nor is asked for yet.
// All of them belong to a feature that is not offered, and that is proved.
var later = map[int]rule{
	73: {star: "★", source: "vhost-user, GET_VRING_BASE", text: "For a packed ring all 32 bits are answered: both positions and both wrap counters.", later: "packed rings"},
	74: {star: "★", source: "vhost-user, SET_VRING_BASE", text: "For a packed ring the used position and its wrap counter are taken from bits 16 to 31.", later: "packed rings"},
	75: {source: "vhost-user, SET_VRING_BASE", text: "A packed ring that was never used begins at 0x80008000: position 0, wrap counters 1.", later: "packed rings"},
	93: {star: "★", source: "vhost-user, Migration", text: "The descriptors of a packed ring, where used ones are written, are marked in the dirty log.", later: "packed rings"},

	113: {source: "vhost-user, IOMMU support", text: "An invalidation is answered when no access through its range is under way.", later: "translation by the front-end"},
	115: {source: "vhost-user, IOMMU support", text: "A miss is told to the front-end, and its request waits until the translation comes.", later: "translation by the front-end"},
}

// form is how the comment of a rule's test begins.
var form = regexp.MustCompile(`^Rule (F?)(\d+)(★?) \(([^()]+)\): (.+)$`)

// catalogue reads the rules that are proved from the tests' comments.
func catalogue(t *testing.T) []*set {
	t.Helper()
	all := sets()
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		must(t, err)
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			must(t, err)
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") && f.Recv == nil {
					enter(t, all, f)
				}
			}
		}
	}
	return all
}

// enter adds what a test says of its rule.
func enter(t *testing.T, sets []*set, f *ast.FuncDecl) {
	t.Helper()
	comment := strings.Join(strings.Fields(f.Doc.Text()), " ")
	if !strings.HasPrefix(comment, "Rule ") {
		return
	}
	m := form.FindStringSubmatch(comment)
	if m == nil {
		t.Errorf("%s: its comment must begin like %q", f.Name.Name, "Rule 7★ (vhost-user, Header): what holds")
		return
	}
	n, err := strconv.Atoi(m[2])
	must(t, err)
	all := sets[slices.IndexFunc(sets, func(s *set) bool { return s.mark == m[1] })].proved
	m = m[2:]
	old := all[n]
	switch {
	case old == nil:
		text := strings.ToUpper(m[3][:1]) + m[3][1:]
		all[n] = &rule{star: m[1], source: m[2], text: text, tests: []string{f.Name.Name}}
	case old.star != m[1]:
		t.Errorf("%s: rule %d has a star, or has not: see %s", f.Name.Name, n, old.tests[0])
	default:
		old.tests = append(old.tests, f.Name.Name)
	}
}

// notOffered is how the text of a rule says that it is about something which
// this back-end refuses.
var notOffered = regexp.MustCompile(`(?i)\b(is|are) not offered\b|\bnot offered:`)

// verdict is the last column.
func (r *rule) verdict() string {
	switch tests := strings.Join(r.tests, ", "); {
	case r.later != "":
		return "later: " + r.later
	case notOffered.MatchString(r.text):
		return "refused: " + tests
	default:
		return "proved by " + tests
	}
}

const preface = `# Conformance

What a vhost-user back-end and a front-end have to keep, rule by rule, and the test that proves it. The rules come from the
vhost-user document, from virtio 1.2, and from what QEMU does. ★ marks those that back-ends commonly break; a
fault made on purpose (` + "`make mutants`" + `) shows for many of them that their test would notice.

* **proved by**: the test fails when the back-end breaks the rule.
* **refused**: the rule is about a feature that is not offered; the test proves that it is refused cleanly.
* **later**: about a feature that is not offered yet, or that this end has no use for, and shows only in use.

The tables are made of the comments of the tests, in ` + "`vhost/conformance`, `cmd/vhostd/internal/fabric` and `vhost`" + `, by
` + "`go test ./vhost/conformance -run Catalogue -update`" + `; a test fails when the two differ.

`

// document is the whole text of the table's file.
func document(sets []*set) []byte {
	b := bytes.NewBufferString(preface)
	for i, title := range []string{"The back-end", "The front-end"} {
		fmt.Fprintf(b, "## %s\n\n%s\n", title, sets[i].table())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// table is the rules of one end.
func (s *set) table() []byte {
	var b, lines bytes.Buffer
	count := make(map[string]int)
	for _, n := range slices.Sorted(maps.Keys(s.proved)) {
		r := s.proved[n]
		kind, _, _ := strings.Cut(strings.Replace(r.verdict(), "proved by", "proved:", 1), ":")
		count[kind]++
		cell := strings.NewReplacer("|", `\|`)
		fmt.Fprintf(&lines, "| %s%d | %s | %s | %s | %s |\n", s.mark, n, r.star, cell.Replace(r.text), cell.Replace(r.source), r.verdict())
	}
	fmt.Fprintf(&b, "%d rules: %d proved, %d refused, %d later.\n\n", len(s.proved), count["proved"], count["refused"], count["later"])
	b.WriteString("| # | ★ | rule | source | verdict |\n|---|---|---|---|---|\n")
	b.Write(lines.Bytes())
	return b.Bytes()
}

// complete adds what is not proved yet, and fails for what is neither.
func (s *set) complete(t *testing.T) {
	for n, r := range s.later {
		if has := s.proved[n]; has != nil {
			t.Errorf("rule %s%d is proved by %s: take it off the list of what comes later", s.mark, n, has.tests[0])
		}
		s.proved[n] = &r
	}
	for n := 1; n <= s.needed; n++ {
		if s.proved[n] == nil {
			t.Errorf("rule %s%d is neither proved nor said to come later", s.mark, n)
		}
	}
}

func TestCatalogueIsWhatTheTestsSay(t *testing.T) {
	all := catalogue(t)
	for _, s := range all {
		s.complete(t)
	}
	want := document(all)
	if *update {
		must(t, os.WriteFile(table, want, 0o644))
	}
	got, err := os.ReadFile(table)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the tests' comments say: go test ./vhost/conformance -run Catalogue -update", table)
	}
}
