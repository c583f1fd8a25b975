#!/bin/bash
# `make check-valgrind`: every test program that needs no other machine under
# memcheck; then the filesystem daemon and pct, each in the test of its own.
# Any report, and any memory that is definitely lost, is a failure.
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${top_builddir:-$here/../build}" && pwd)
count=0 failures=0

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}

ok() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
    else
        failures=$((failures + 1))
        echo "not ok $count - $2"
    fi
}

command -v valgrind >/dev/null || skip 'needs valgrind'
# A sanitizer has its own idea of memory.
grep -q '^SANITIZER_FLAGS = *-f' "$build/Makefile" && skip 'built with a sanitizer'
export G_TEST_SRCDIR=$here top_builddir=$build

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -m 755 "$work/reports"
memcheck="valgrind -q --error-exitcode=99 --leak-check=full \
--show-leak-kinds=definite --errors-for-leak-kinds=definite \
--log-file=$work/reports/%p"

# no_report NAME: nothing has been reported so far. What starts with "--" is
# about system calls that memcheck is too old for.
no_report() {
    find "$work/reports" -type f -size +0 -exec grep -h '^==' {} + >"$work/all"
    [ ! -s "$work/all" ]
    ok $? "$1"
    sed 's/^/# /' "$work/all"
    rm -f "$work"/reports/*
}

# The corpora of the fuzz targets and the simulator are left to the sanitizers,
# which are faster.
for program in "$build"/tests/{unit,io}/test-*; do
    case $program in
    */test-safepath) continue ;; # openat2(2) is one of those
    */test-notifier) continue ;; # starts itself anew: that would be memcheck
    esac
    if [ -x "$program" ] && [ -f "$program" ]; then
        timeout 300 $memcheck "$program" >"$work/out" 2>&1 </dev/null
        status=$?
        if [ $status -ne 0 ]; then
            tail -n 20 "$work/out" | sed 's/^/# /'
        fi
        [ $status = 0 ]
        ok $? "${program#"$build"/} passes"
        no_report "${program#"$build"/}"
    fi
done

# The daemon's own test has time limits, which count for it without memcheck.
cat >"$work/pmxcfs" <<END
#!/bin/sh
exec $memcheck $build/pmxcfs/pmxcfs "\$@"
END
chmod 755 "$work/pmxcfs"
PMXCFS=$work/pmxcfs sh "$here/io/test-fuse.sh" >"$work/out" 2>&1 </dev/null
grep -q '^ok' "$work/out"
ok $? "pmxcfs runs"
no_report 'pmxcfs'

PCT_WRAPPER=$memcheck bash "$here/io/test-container.sh" \
    >"$work/out" 2>&1 </dev/null
grep -q '^ok' "$work/out" && ! grep -q '^not ok' "$work/out"
ok $? "pct runs"
no_report 'pct'

echo "1..$count"
test $failures = 0
