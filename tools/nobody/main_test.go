package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain is the command itself, when a test below runs it.
func TestMain(m *testing.M) {
	if os.Getenv("NOBODY_TEST") != "" {
		main()
	}
	os.Exit(m.Run())
}

func nobody(t *testing.T, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "NOBODY_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheProgramHasNoRightsAndGetsNone(t *testing.T) {
	// It lies where only we may go, as binaries of tests do.
	dir := t.TempDir()
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Skip("there is no cat to run:", err)
	}
	path := filepath.Join(dir, "cat")
	if err := os.WriteFile(path, cat, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := nobody(t, path, "/proc/self/status")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string]string{"NoNewPrivs:": "1", "CapPrm:": "0000000000000000", "CapEff:": "0000000000000000"}
	if os.Getuid() == 0 {
		want["Uid:"], want["Gid:"], want["Groups:"] = "65534 65534 65534 65534", "65534 65534 65534 65534", ""
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if value, ok := want[words[0]]; ok {
			delete(want, words[0])
			if got := strings.Join(words[1:], " "); got != value {
				t.Errorf("%s is %q, not %q", words[0], got, value)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%v are not told", want)
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	if out, err := nobody(t, "/nowhere"); err == nil || !strings.Contains(out, "opening /nowhere") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := nobody(t); err == nil || !strings.Contains(out, "usage") {
		t.Errorf("%v: %s", err, out)
	}
}
