package qemutest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSourcesAreReadInBothStyles(t *testing.T) {
	etc := t.TempDir()
	parts := filepath.Join(etc, "sources.list.d")
	if err := os.Mkdir(parts, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(etc, "sources.list"): `
# deb http://commented.example/debian stable main
deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian stable main contrib # why
deb-src http://one.example/debian stable main
`,
		filepath.Join(parts, "a.sources"): `Types: deb deb-src
# a comment
URIs: http://two.example/debian http://three.example/debian
Suites: stable
 stable-updates
Components: main
Signed-By: /two.gpg

Types: deb
URIs: http://off.example/debian
Suites: stable
Components: main
Enabled: no
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readSources(etc)
	if err != nil {
		t.Fatal(err)
	}
	suites := []string{"stable", "stable-updates"}
	want := []source{
		{"http://one.example/debian", "/k.gpg", []string{"stable"}, []string{"main", "contrib"}},
		{"http://two.example/debian", "/two.gpg", suites, []string{"main"}},
		{"http://three.example/debian", "/two.gpg", suites, []string{"main"}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(source{})); d != "" {
		t.Error(d)
	}
}
