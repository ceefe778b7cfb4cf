package config

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// Owner names who a socket shall belong to: names or numbers, each may be empty.
type Owner struct{ User, Group string }

// ParseOwner reads USER[:GROUP] or :GROUP. Names are looked up later, by IDs.
func ParseOwner(s string) (Owner, error) {
	u, g, colon := strings.Cut(s, ":")
	if u == "" && g == "" || colon && g == "" || strings.Contains(g, ":") {
		return Owner{}, fmt.Errorf("%q is not USER, USER:GROUP or :GROUP", s)
	}
	return Owner{u, g}, nil
}

// IDs looks the names up; -1 stands for what was not named.
func (o Owner) IDs() (uid, gid int, err error) {
	uid, gid = -1, -1
	if o.User != "" {
		if uid, err = lookup(o.User, userID); err != nil {
			return -1, -1, fmt.Errorf("no user %q on this machine: %w", o.User, err)
		}
	}
	if o.Group != "" {
		if gid, err = lookup(o.Group, groupID); err != nil {
			return -1, -1, fmt.Errorf("no group %q on this machine: %w", o.Group, err)
		}
	}
	return uid, gid, nil
}

// lookup takes numbers as they are: a container's ids may have no names here.
func lookup(name string, find func(string) (string, error)) (int, error) {
	id, err := strconv.ParseUint(name, 10, 31)
	if err == nil {
		return int(id), nil
	}
	if errors.Is(err, strconv.ErrRange) {
		return -1, errors.New("the number is too large for an id")
	}
	found, err := find(name)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(found)
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
