package qemutest

import (
	"strings"
	"testing"
)

func TestGuestThatCrashesSaysWhyAtOnce(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	l.initramfs.modules += ",no_such_module.ko"
	_, err := l.Boot(ctx, Guest{Name: "crash", QEMU: q})
	if err == nil {
		t.Fatal("a guest has booted whose init cannot load its modules")
	}
	for _, words := range []string{"no_such_module.ko: no such file", "Kernel panic"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in the error: %v", words, err)
		}
	}
	if ctx.Err() != nil {
		t.Errorf("the time was up before: %v", err)
	}
}
