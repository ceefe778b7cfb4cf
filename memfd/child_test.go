package memfd

import (
	"errors"
	"fmt"
	"io"
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
	cmd := child(t, "^Test(Huge|TooFew|AFailure|Growing|Releasing|AMirror|APeer|ALookUp|TheMinimum|Neighbours|Mirrors)")
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

// smallCgroup makes a cgroup below ours with a limit of memory.
func smallCgroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	all, err := hierarchies(linux{})
	if err != nil {
		t.Skip("no cgroups:", err)
	}
	err = errors.New("no hierarchy has the memory controller")
	for _, h := range all {
		dir := filepath.Join(h.mount, h.group, fmt.Sprintf("memfd-test-%d", os.Getpid()))
		if err = os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		if err = os.WriteFile(filepath.Join(dir, h.limits[0]), fmt.Append(nil, limit), 0); err != nil {
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error("removing the cgroup:", err)
			}
		})
		return dir
	}
	t.Skip("no cgroup with a limit can be made here:", err)
	return ""
}

// TestInASmallCgroupMemoryEndsInAnError would end in a kill if it did not hold.
func TestInASmallCgroupMemoryEndsInAnError(t *testing.T) {
	const limit = 256 << 20
	if os.Getenv(childVar) == "cgroup" {
		growUntilShort(t)
		return
	}
	dir := smallCgroup(t, limit)
	cmd := child(t, "^TestInASmallCgroupMemoryEndsInAnError$")
	cmd.Env = append(cmd.Env, childVar+"=cgroup")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It begins when its input ends, and by then it is inside.
	inside := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0)
	if inside != nil {
		_ = cmd.Process.Kill()
	}
	_ = stdin.Close()
	err = cmd.Wait()
	if inside != nil {
		t.Skip("no process can be put into the cgroup:", inside)
	}
	if err != nil {
		t.Errorf("the child: %v\n%s", err, out.String())
	}
	t.Log(strings.TrimSpace(out.String()))
}

// growUntilShort takes memory until there is none.
func growUntilShort(t *testing.T) {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{NoHuge: true})
	if err != nil {
		t.Fatal(err)
	}
	for total := uint64(0); ; total += 8 << 20 {
		_, err := a.grow(t.Context(), growth{owner: "all", size: 8 << 20, node: AnyNode})
		if short, ok := errors.AsType[*ShortageError](err); ok && strings.Contains(short.What, "cgroup") && total >= 64<<20 {
			t.Logf("after %s: %v", bytesText(total), err)
			return
		}
		if err != nil || total > 256<<20 {
			t.Fatalf("after %s: %v", bytesText(total), err)
		}
	}
}
