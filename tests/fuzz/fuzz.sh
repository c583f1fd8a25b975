#!/bin/sh
# fuzz.sh NAME [SECONDS]: builds fuzz-NAME with clang's libFuzzer in a
# temporary folder and lets it run. New inputs land in tests/fuzz/corpus/NAME.
set -e
name=${1:?usage: fuzz.sh NAME [SECONDS]}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/config.h"
# shellcheck disable=SC2046
clang -std=gnu17 -g -O1 -fsanitize=fuzzer,address,undefined -I. -I"$work" \
    -DPACKAGE_VERSION='"fuzz"' $(pkg-config --cflags glib-2.0) \
    "tests/fuzz/fuzz-$name.c" common/ipc-event.c common/ipc-listing.c common/wire.c common/names.c common/log.c \
    pmxcfs/core/*.c \
    agent/core/*.c tests/unit/lone-member.c \
    $(pkg-config --libs glib-2.0) -o "$work/fuzz"
"$work/fuzz" -max_total_time="${2:-60}" -artifact_prefix="${TMPDIR:-/tmp}/" \
    "tests/fuzz/corpus/$name"
