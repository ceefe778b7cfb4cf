#!/bin/sh
# check-go.sh GO tells whether the go command GO is new enough for go.mod, and
# what to do if it is not. Debian's own is not.
want=$(sed -n 's/^go 1\.\([0-9]*\).*/\1/p' go.mod)
have=$("$1" env GOVERSION 2>/dev/null)
minor=$(echo "$have" | sed -n 's/^.*go1\.\([0-9]*\).*/\1/p')
[ -n "$minor" ] && [ "$minor" -ge "$want" ] && exit 0
echo "vhostd needs Go 1.$want or newer, and '$1' is ${have:-not there or cannot run}." \
	"Get one from go.dev/dl and unpack it into /usr/local (Debian's package is too old)," \
	"then run: make GO=/usr/local/go/bin/go" >&2
exit 1
