#!/bin/sh
# Who may include whom, and what a pure core must not call (style: Layout).
# Reads the include lines; the linker guards the rest.
cd "${top_srcdir:-$(dirname "$0")/../..}" || exit 1

plan=0
failed=0

# check NAME FOUND: passes when FOUND is empty.
check() {
    plan=$((plan + 1))
    found=$2
    if [ -z "$found" ]; then
        echo "ok $plan - $1"
    else
        failed=1
        echo "not ok $plan - $1"
        echo "$found" | sed 's/^/# /'
    fi
}

# includes FOLDER ALLOWED: our own includes of FOLDER's files that ALLOWED, an
# extended regular expression, does not cover.
includes() {
    grep -rn --include='*.[ch]' '^#include "' "$1" |
        grep -Ev "\"(config\.h|$2)" || true
}

check 'common includes common alone' "$(includes common 'common/')"
check 'pmxcfs/core includes common and itself' \
    "$(includes pmxcfs/core '(common|pmxcfs/core)/')"
check 'pmxcfs/io includes common, its core and itself' \
    "$(includes pmxcfs/io '(common|pmxcfs/core|pmxcfs/io)/')"
check 'pmxcfs never includes agent' "$(includes pmxcfs '(common|pmxcfs)/')"
check 'agent/core includes common and itself' \
    "$(includes agent/core '(common|agent/core)/')"
check 'agent/io includes common, its core and itself' \
    "$(includes agent/io '(common|agent/core|agent/io)/')"
check 'agent never includes pmxcfs' "$(includes agent '(common|agent)/')"
check 'the simulator drives cores alone' \
    "$(includes tests/sim '(common|pmxcfs/core|agent/core|tests/sim)/')"

check 'cores include no header of the world' "$(
    grep -rn --include='*.[ch]' '^#include <' pmxcfs/core agent/core |
        grep -Ev '<(errno|glib|string|sys/types|stdarg|stdint|math|sys/stat|ctype|elf)\.h>'
)"
calls='time|clock_gettime|gettimeofday|g_get_monotonic_time|g_get_real_time'
calls="$calls|g_random_[a-z]+|open|openat|fopen|read|socket|g_thread_new"
calls="$calls|g_main_[a-z_]+|g_timeout_[a-z_]+|g_file_[gs]et_[a-z_]+|getpid"
calls="$calls|getenv|fork"
check 'cores have no clock, file, socket, thread or chance' \
    "$(grep -rnE --include='*.c' "\b($calls)\(" pmxcfs/core agent/core)"
check 'nothing runs a shell or sleeps' "$(
    grep -rnE --include='*.c' '\b(system|popen|sleep|usleep|nanosleep)\(' \
        common pmxcfs agent
)"
check 'file names are unique, so a name is enough' "$(
    find common pmxcfs agent tests -name '*.[ch]' -printf '%f\n' | sort | uniq -d
)"

echo "1..$plan"
exit $failed
