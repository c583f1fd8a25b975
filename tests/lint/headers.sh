#!/bin/sh
# Each header compiles alone. HEADER_CC and HEADER_CFLAGS come from make.
src=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${top_builddir:-$src}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
plan=0
failed=0

for header in $(cd "$src" && find common pmxcfs agent tests -name '*.h' |
    sort); do
    plan=$((plan + 1))
    # Twice: the guard works too.
    printf '#include "config.h"\n#include "%s"\n#include "%s"\n' \
        "$header" "$header" >"$work/alone.c"
    # shellcheck disable=SC2086
    if ${HEADER_CC:-cc} -std=gnu17 -fsyntax-only -I"$src" -I"$build" \
        $HEADER_CFLAGS "$work/alone.c" 2>"$work/errors"; then
        echo "ok $plan - $header"
    else
        failed=1
        echo "not ok $plan - $header"
        sed 's/^/# /' "$work/errors"
    fi
done
echo "1..$plan"
exit $failed
