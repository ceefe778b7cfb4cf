package qemutest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is a place packages come from, as apt's files say.
type source struct {
	uri, signedBy    string
	suites, sections []string
}

// backports makes the source line of the backports of the release this machine
// runs, at the mirror its own apt uses.
func backports() (line, suite string, err error) {
	release, err := codename()
	if err != nil {
		return "", "", err
	}
	sources, err := readSources("/etc/apt")
	if err != nil {
		return "", "", err
	}
	for _, s := range sources {
		if !slices.Contains(s.suites, release) || !slices.Contains(s.sections, "main") {
			continue
		}
		suite = release + "-backports"
		options := ""
		if s.signedBy != "" {
			options = "[signed-by=" + s.signedBy + "] "
		}
		return fmt.Sprintf("deb %s%s %s main", options, s.uri, suite), suite, nil
	}
	return "", "", fmt.Errorf("apt's sources name no mirror of %s", release)
}

func codename() (string, error) {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("/etc/os-release names no release")
}

// readSources reads sources.list, *.list and *.sources below an apt folder.
func readSources(etc string) ([]source, error) {
	files := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	var all []source
	for _, file := range files {
		b, err := os.ReadFile(file)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, err
		case filepath.Ext(file) == ".sources":
			all = append(all, parseStanzas(string(b))...)
		default:
			all = append(all, parseLines(string(b))...)
		}
	}
	return all, nil
}

// parseLines reads the one-line style: deb [options] URI suite section…
func parseLines(text string) (all []source) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		var s source
		if before, rest, ok := strings.Cut(line, "["); ok {
			options, after, ok := strings.Cut(rest, "]")
			if !ok {
				continue
			}
			for o := range strings.FieldsSeq(options) {
				if key, ok := strings.CutPrefix(o, "signed-by="); ok {
					s.signedBy = key
				}
			}
			line = before + after
		}
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "deb" {
			continue
		}
		s.uri, s.suites, s.sections = f[1], f[2:3], f[3:]
		all = append(all, s)
	}
	return all
}

// parseStanzas reads the deb822 style: fields, an empty line between stanzas.
func parseStanzas(text string) (all []source) {
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		fields := make(map[string][]string)
		var last string
		for line := range strings.Lines(stanza) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if line[0] != ' ' && line[0] != '\t' {
				name, value, ok := strings.Cut(line, ":")
				if !ok {
					continue
				}
				last, line = strings.ToLower(strings.TrimSpace(name)), value
			}
			fields[last] = append(fields[last], strings.Fields(line)...)
		}
		enabled := fields["enabled"]
		if !slices.Contains(fields["types"], "deb") || len(enabled) > 0 && enabled[0] == "no" {
			continue
		}
		var key string
		if k := fields["signed-by"]; len(k) == 1 { // more words: the key itself
			key = k[0]
		}
		for _, uri := range fields["uris"] {
			all = append(all, source{uri, key, fields["suites"], fields["components"]})
		}
	}
	return all
}
