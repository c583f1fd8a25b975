#!/bin/sh
# The database and what can happen to it, in namespaces of its own: /etc,
# /var/lib and /run are copies, and nothing of it is left behind.
here=$(dirname "$0")
build=${top_builddir:-$here/../../build}
program=${PMXCFS:-$build/pmxcfs/pmxcfs}
tool=${PMXCFS_DB:-$build/pmxcfs/cli/pmxcfs-db}

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
    python3 -B "$here/test-database.py" "$program" "$tool"
