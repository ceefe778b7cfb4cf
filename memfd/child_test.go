package memfd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A test that needs another process to be in it runs the test binary again,
// with this variable set.
const childVar = "MEMFD_TEST_CHILD"

// child makes a command that runs tests of this binary again.
func child(t *testing.T, tests string) *exec.Cmd {
	t.Helper()
	// The binary lies where only its owner may go.
	dir, err := os.MkdirTemp("", "memfd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "memfd.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.run", tests, "-test.v", "-test.count=1", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childVar+"=1")
	cmd.Dir = dir
	return cmd
}

func TestEverythingWorksForNobody(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(childVar) != "" {
		t.Skip("only root can drop its rights")
	}
	hugePages(t, 2<<20, 4)
	cmd := child(t, "^Test(Huge|TooFew|AFailure|Growing|Releasing|AMirror|APeer|ALookUp|TheMinimum|Neighbours|Mirrors|.*AnySize$)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	passed := strings.Count(string(out), "--- PASS")
	if passed < 10 {
		t.Errorf("only %d tests passed:\n%s", passed, out)
	}
	for _, skipped := range regexp.MustCompile(`--- SKIP: (\S+)`).FindAllStringSubmatch(string(out), -1) {
		if !strings.Contains(skipped[1], "GiB") {
			t.Logf("skipped without rights: %s", skipped[1])
		}
	}
}
