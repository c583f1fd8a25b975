#!/bin/sh
# The local socket of a daemon in local mode, in namespaces of its own: mounts
# as in test-fuse.sh, and a network, which abstract sockets belong to.
here=$(dirname "$0")
build=${top_builddir:-$here/../../build}

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}

test "$(id -u)" = 0 || skip 'needs root'
test -c /dev/fuse || skip 'needs /dev/fuse'
command -v python3 >/dev/null || skip 'needs python3'
unshare -m -n -u --propagation private true 2>/dev/null ||
    skip 'needs mount and network namespaces'
exec unshare -m -n -u --propagation private \
    python3 -B "$here/test-ipc.py" "$build/pmxcfs/pmxcfs" \
    "$build/tests/io/ipc-conform" "$build/tests/io/ipc-events"
