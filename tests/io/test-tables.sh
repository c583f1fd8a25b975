#!/bin/sh
# The rows of the tables, in namespaces of its own: /etc, /var/lib and /run
# are copies, and nothing of it is left behind.
here=$(dirname "$0")
program=${PMXCFS:-${top_builddir:-$here/../../build}/pmxcfs/pmxcfs}

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}

test "$(id -u)" = 0 || skip 'needs root'
test -c /dev/fuse || skip 'needs /dev/fuse'
command -v python3 >/dev/null || skip 'needs python3'
unshare -m -u --propagation private true 2>/dev/null ||
    skip 'needs mount namespaces'
exec unshare -m -u --propagation private \
    python3 -B "$here/test-tables.py" "$program"
