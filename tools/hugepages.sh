#!/bin/sh
# hugepages.sh N COMMAND … runs COMMAND while N huge pages of 2 MiB more than
# before are reserved, if this machine lets us: tests that use them skip where
# there are none. Afterwards the number is what it was.
set -u
n=$1
shift
file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
before=$(cat "$file" 2>/dev/null)
if [ -n "$before" ] && [ -w "$file" ]; then
	restore() { echo "$before" >"$file"; }
	trap restore EXIT
	trap 'exit 130' INT TERM
	echo $((before + n)) >"$file" 2>/dev/null
fi
"$@"
