package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	// A crash must name its goroutine on the console before the kernel panics.
	debug.SetTraceback("all")
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: runs as process 1 of a test guest only")
		os.Exit(2)
	}
	panic(boot()) // process 1 ends: the kernel panics and says so
}

// boot makes the guest usable and serves its agent, until something fails.
func boot() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := loadModules(parameter("modules")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	return newAgent(port).serve()
}

// parameter reads name=value from the kernel's command line.
func parameter(name string) string {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		panic(err)
	}
	for word := range strings.FieldsSeq(string(line)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}
