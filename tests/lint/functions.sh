#!/bin/sh
# A function fits a screen: none has more than LIMIT lines between its braces.
cd "${top_srcdir:-$(dirname "$0")/../..}" || exit 1
limit=70

long=$(find common pmxcfs agent tests -name '*.c' | sort | xargs awk -v limit="$limit" '
    FNR == 1 { start = 0 }
    /^\{/ { start = FNR; name = before }
    /^\}/ && start {
        if (FNR - start - 1 > limit)
            printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - start - 1, name
        start = 0
    }
    /^[a-z_]+\(/ { before = $0 }')
if [ -z "$long" ]; then
    echo "ok 1 - no function has more than $limit lines"
else
    echo "not ok 1 - no function has more than $limit lines"
    echo "$long" | sed 's/^/# /'
fi
echo "1..1"
test -z "$long"
