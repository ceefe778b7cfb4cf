#!/bin/sh
# fuzz.sh GO TIME runs every fuzz target of the module for TIME, one after the
# other: go test -fuzz takes one target at a time. Its output is for testgroups.
set -u
go=$1 time=$2 bad=0
for file in $(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		"$go" test -json -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$(dirname "$file")" || bad=1
	done
done
exit $bad
