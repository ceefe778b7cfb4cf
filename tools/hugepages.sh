#!/bin/sh
# hugepages.sh N COMMAND … runs COMMAND while N huge pages of 2 MiB more than
# before are reserved, if this machine lets us: tests that use them skip where
# there are none. Afterwards ours are given back, and not those that others have
# reserved meanwhile.
set -u
n=$1
shift
file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

# more N changes how many there are, and tells by how many it did: the kernel
# may find fewer. Who changes them in this way takes turns.
more() {
	(
		flock 9
		had=$(cat "$file")
		echo $((had + $1)) >"$file"
		echo $(($(cat "$file") - had))
	) 9<"$file" 2>/dev/null
}

if [ -w "$file" ]; then
	got=$(more "$n")
	trap 'more "-$got" >/dev/null' EXIT
	trap 'exit 130' INT TERM
fi
"$@"
