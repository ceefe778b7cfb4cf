#!/bin/sh
# fuzz.sh GO TIME runs every fuzz target of the module for TIME, one after the
# other: go test -fuzz takes one target at a time. Its output is for testgroups.
set -u
go=$1 time=$2 bad=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# With long minimisation, which is the default, a short run does nothing else.
fuzz() { # fuzz TARGET DIRECTORY
	"$go" test -json -run '^$' -fuzz "^$1\$" -fuzztime "$time" -fuzzminimizetime 10x "$2" >"$out"
}

# At the end of its time Go's fuzzer sometimes fails with nothing but its own
# deadline. That is no finding, which always comes with the input; but it
# is no good run either.
only_deadline() {
	grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out"
}

for file in $(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		dir=$(dirname "$file")
		fuzz "$target" "$dir" || { only_deadline && fuzz "$target" "$dir"; } || bad=1
		cat "$out"
	done
done
exit $bad
