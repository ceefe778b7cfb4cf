#!/bin/sh
# deps.sh installs the programs that the tests and the demo talk to, and nothing
# more. It is quiet when all is there. On Debian, as root, it installs through
# apt-get; elsewhere it says in one line what is missing and fails. With --soft
# it does not fail then: tests that need what is missing say SKIP and why. With
# --build it also installs what DPDK's side of a benchmark is built with.
set -eu

soft=0
build=0
for option; do
	case $option in
	--soft) soft=1 ;;
	--build) build=1 ;;
	esac
done

missing='' # commands, for people
packages='' # Debian's packages that bring them

need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 && return
	missing="$missing $1"
	packages="$packages $2"
}

# plugin NAME: testpmd finds its drivers by file name when it starts.
plugin() {
	for f in /usr/lib/*/dpdk/pmds-*/"$1".so*; do
		[ -e "$f" ] && return
	done
	missing="$missing $1"
	packages="$packages $2"
}

need qemu-system-x86_64 qemu-system-x86
need qemu-storage-daemon qemu-system-common
need dpdk-testpmd dpdk-dev
plugin librte_net_virtio librte-net-virtio23
plugin librte_net_vhost librte-net-vhost23
plugin librte_net_pcap librte-net-pcap23
plugin librte_mempool_ring librte-mempool-ring23
need ovsdb-server openvswitch-switch
switch=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk
if [ ! -x "$switch" ]; then
	missing="$missing $switch"
	packages="$packages openvswitch-switch-dpdk"
fi

if [ "$build" = 1 ]; then
	need cc gcc
	need pkg-config pkg-config
	if ! pkg-config --exists libdpdk 2>/dev/null; then
		missing="$missing libdpdk"
		packages="$packages libdpdk-dev"
	fi
fi

[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "missing:$missing (Debian 12: as root, apt-get install --no-install-recommends$packages)" >&2
	exit $((1 - soft))
fi

# apt runs a command and shows what it said only if it failed.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
	if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		return 1
	fi
}

# Nothing that is installed is to be started: tests start what they need.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$log" "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

echo "installing:$packages"
# A fresh machine has no package lists, an old one has lists whose files are gone.
lists=$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)
[ -n "$lists" ] || apt update
# shellcheck disable=SC2086 # a list of words
apt install --no-install-recommends $packages 2>/dev/null ||
	{ apt update && apt install --no-install-recommends $packages; } ||
	exit $((1 - soft))
