package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
)

func main() {
	log.SetFlags(0)
	asJSON := flag.Bool("json", false, "print the results as JSON")
	rounds := flag.Int("rounds", 7, "how often each question is asked")
	only := flag.String("only", "", "one section: lookup, heap, pages, start")
	flag.Parse()
	switch flag.Arg(0) {
	case "answer":
		if err := serve(os.Stdin, os.Stdout); err != nil {
			log.Fatal(err)
		}
	case "start":
		if err := start(os.Stdout); err != nil {
			log.Fatal(err)
		}
	case "":
		if err := run(*rounds, *only, *asJSON); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatalf("membench: what is %q?", flag.Arg(0))
	}
}

// run asks everything and prints the table.
func run(rounds int, only string, asJSON bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	theirs, err := build()
	if err != nil {
		log.Printf("SKIPPED: DPDK's side of every line: %v", err)
	}
	r := &runner{self: self, theirs: theirs, rounds: rounds}
	for _, s := range sections() {
		if only == "" || only == s.name {
			if err := r.section(s); err != nil {
				return err
			}
		}
	}
	if only == "" || only == "start" {
		if err := r.starts(); err != nil {
			return err
		}
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r.results)
	}
	return report(os.Stdout, r.results)
}

// program is where DPDK's side is built.
const program = "build/membench-dpdk"

// build makes DPDK's side with the machine's compiler and library.
func build() (path string, err error) {
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libdpdk").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pkg-config does not know libdpdk (Debian: libdpdk-dev): %w: %s", err, flags)
	}
	if err := os.MkdirAll("build", 0o755); err != nil {
		return "", err
	}
	args := append([]string{"-O3", "-march=native", "-Wall", "-o", program, "tools/membench/dpdk/dpdk.c"}, strings.Fields(string(flags))...)
	args = append(args, "-lm")
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("building it: %w", err), errors.New(string(out)))
	}
	return program, nil
}
