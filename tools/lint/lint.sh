#!/bin/sh
# Runs every lint and says what each found. Exit status 1 when one failed or its tool is missing.
# A lint is a script of this folder that prints findings as file:line: text and fails if any.
# Run by `make lint`, which has built build/release/libnpumoe.* first.
cd "$(dirname "$0")/../.." || exit 1
here=tools/lint
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export work

# C sources of the project; no list of git, so that a tarball can be checked too.
find include src tests tools -name '*.[ch]' | sort >"$work/c"
find include src tests tools docs mk .ci Makefile setup ./*.md -type f ! -name '*.png' \
    ! -name '*.gguf' ! -path '*/corpus/*' ! -path '*/golden/*' ! -path '*/__pycache__/*' |
    sed 's|^\./||' | sort >"$work/text"
# The same without comments and with empty strings, as file<TAB>line<TAB>code.
xargs awk -f $here/strip.awk <"$work/c" >"$work/code"

failed=''
lint() {
    name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        printf 'lint: %-9s ok%s\n' "$name" "$(sed -n 's/^note: /, /p' "$work/out")"
    else
        failed="$failed $name"
        printf 'lint: %-9s FAILED\n' "$name"
        head -n 60 "$work/out"
    fi
}

lint format sh $here/format.sh
lint text sh $here/text.sh
lint includes awk -f $here/includes.awk "$work/code"
lint headers sh $here/headers.sh
lint banned awk -f $here/banned.awk $here/banned.allow "$work/code"
lint symbols sh $here/symbols.sh
lint isa sh $here/isa.sh
lint sizes sh $here/sizes.sh
lint dup awk -f $here/dup.awk "$work/code"

if [ -n "$failed" ]; then
    echo "lint: failed:$failed"
    exit 1
fi
echo "lint: all passed"
