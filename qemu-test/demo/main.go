package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// demoTime bounds a run, downloads included.
const demoTime = 10 * time.Minute

func main() {
	asJSON := flag.Bool("json", false, "print one JSON object instead of tables")
	megabytes := flag.Int64("mb", 64, "megabytes to stream each way")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: demo [-json] [-mb N]: two guests, and vhostd between them")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 || *megabytes <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	r, err := run(ctx, progress(os.Stderr), *megabytes<<20)
	cancel()
	stop()
	if err == nil {
		err = write(os.Stdout, r, *asJSON)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// progress prints lines with the time since the start.
func progress(w io.Writer) func(format string, args ...any) {
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(w, "%6.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

func write(w io.Writer, r *report, asJSON bool) error {
	if !asJSON {
		return r.tables(w)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
