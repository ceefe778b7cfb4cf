package memfd

import (
	"errors"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is where the memory limits of a version of cgroups are.
type hierarchy struct {
	limits       []string // files with what may be used
	usage        string   // the file with what is
	inactive     string   // what of that would be reclaimed, in memory.stat
	mount, group string   // where the hierarchy is mounted, and our place below it
}

var (
	version1 = hierarchy{
		limits:   []string{"memory.limit_in_bytes"},
		usage:    "memory.usage_in_bytes",
		inactive: "total_inactive_file",
	}
	// Over memory.high a process is slowed down until it stands still.
	version2 = hierarchy{
		limits:   []string{"memory.max", "memory.high"},
		usage:    "memory.current",
		inactive: "inactive_file",
	}
)

// cgroupRoom gives the bytes that the limits of our cgroups, up to the root,
// leave, and the tightest one. On a machine without cgroups there is no bound.
func cgroupRoom(k kernel) (room uint64, group string, err error) {
	room = math.MaxUint64
	all, err := hierarchies(k)
	if errors.Is(err, fs.ErrNotExist) {
		return room, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	for _, h := range all {
		for g := h.group; ; g = path.Dir(g) {
			if n, ok := h.room(k, path.Join(h.mount, g)); ok && n < room {
				room, group = n, g
			}
			if g == "/" || g == "." {
				break
			}
		}
	}
	return room, group, nil
}

// room gives what one cgroup leaves; ok is false if it has no limit.
func (h *hierarchy) room(k kernel, dir string) (n uint64, ok bool) {
	limit := uint64(math.MaxUint64)
	for _, file := range h.limits {
		// "max" is no number, and no limit.
		if n, err := readNumber(k, path.Join(dir, file)); err == nil {
			limit = min(limit, n)
		}
	}
	used, err := readNumber(k, path.Join(dir, h.usage))
	if err != nil || limit == math.MaxUint64 {
		return 0, false
	}
	if text, err := k.read(path.Join(dir, "memory.stat")); err == nil {
		inactive, _ := field(text, h.inactive)
		used -= min(used, inactive)
	}
	return limit - min(limit, used), true
}

// hierarchies finds where the memory controller has us, in either version or
// in both.
func hierarchies(k kernel) ([]hierarchy, error) {
	text, err := k.read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := k.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(text)) {
		// hierarchy-ID:controller-list:cgroup-path
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		h, kind := version2, "cgroup2"
		if part[0] != "0" {
			h, kind = version1, "cgroup"
			if !slices.Contains(strings.Split(part[1], ","), "memory") {
				continue
			}
		}
		var root string
		if h.mount, root = cgroupMount(string(mounts), kind); h.mount == "" {
			continue
		}
		// A mount may show a part of the hierarchy only, as in a container.
		h.group = part[2]
		if rest, below := strings.CutPrefix(h.group, root); below && root != "/" {
			h.group = "/" + strings.TrimPrefix(rest, "/")
		} else if root != "/" || strings.HasPrefix(h.group, "/..") {
			h.group = "/"
		}
		all = append(all, h)
	}
	return all, nil
}

// cgroupMount finds where a version is mounted, and which of its directories.
//
//	36 35 98:0 /root /mount options… - type source super,options
func cgroupMount(mountinfo, kind string) (mount, root string) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || right[0] != kind {
			continue
		}
		if kind == "cgroup2" || slices.Contains(strings.Split(right[2], ","), "memory") {
			return unescape(left[4]), unescape(left[3])
		}
	}
	return "", ""
}

// unescape undoes the octal escapes of mountinfo: \040 is a space.
func unescape(s string) string {
	for i := 0; i+3 < len(s); i++ {
		if s[i] == '\\' {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				s = s[:i] + string([]byte{byte(n)}) + s[i+4:]
			}
		}
	}
	return s
}
