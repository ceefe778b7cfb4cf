package qemutest

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestManyWhoWantTheSameGetItMadeOnce(t *testing.T) {
	t.Setenv("VHOSTD_CACHE", t.TempDir())
	var (
		wg   sync.WaitGroup
		made atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			dir, err := cached("thing", func(dir string) error {
				made.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), []byte("whole"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "whole" {
				t.Errorf("the file has %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times", n)
	}
}

func TestWhatCouldNotBeMadeLeavesNothingAndIsTriedAgain(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("VHOSTD_CACHE", cache)
	broken := errors.New("broken")
	_, err := cached("thing", func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "[^.]*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := cached("thing", func(string) error { return nil }); err != nil {
		t.Errorf("the second time: %v", err)
	}
}
