#!/bin/sh
# The build's own promises: install compiles one object, uninstall removes what install put there
# and nothing else, kcheck does not pass by checking nothing.
. "$(dirname "$0")/common/tap.sh"
if command -v make >/dev/null && [ "$NPUMOE_BUILD" = build/release ]; then
    make -n install PREFIX="$work/elsewhere" >"$work/plan" 2>&1
    check "install with another PREFIX is planned" grep -q 'elsewhere/bin' "$work/plan"
    # the flags' file is not remade by -n, so this only sees rules that name it
    check "only one object knows DATADIR" sh -c \
        "[ \$(grep -c 'DNPUMOE_DATADIR' '$work/plan') -le 1 ]"
    mkdir -p "$work/root/share/npumoe" "$work/root/include/npumoe" "$work/root/bin"
    echo mine >"$work/root/share/npumoe/own.gguf"
    echo mine >"$work/root/include/npumoe/own.h"
    for model in models/*.gguf; do
        [ -f "$model" ] && : >"$work/root/share/npumoe/${model##*/}"
    done
    : >"$work/root/include/npumoe/npumoe.h"
    : >"$work/root/bin/npumoe"
    make -s uninstall PREFIX="$work/root" >"$work/out" 2>&1
    check "uninstall keeps a user's files" test -f "$work/root/share/npumoe/own.gguf" -a \
        -f "$work/root/include/npumoe/own.h"
    check "... and removes its own" sh -c \
        "[ \$(find '$work/root' -type f | wc -l) = 2 ]"
    rm "$work/root/share/npumoe/own.gguf" "$work/root/include/npumoe/own.h"
    make -s uninstall PREFIX="$work/root" >"$work/out" 2>&1
    check "... and its empty folders" test ! -e "$work/root/share/npumoe" -a \
        ! -e "$work/root/include/npumoe"
else
    skip "needs make and the release build"
fi
if [ -x "$NPUMOE_BUILD/kcheck" ]; then
    for option in --tier --filter; do
        "$NPUMOE_BUILD/kcheck" $option nosuch >"$work/out" 2>"$work/err"
        code=$?
        check "kcheck $option nosuch fails" test $code -ne 0
        check "... and says why" sh -c "cat '$work/out' '$work/err' | grep -q -e '$option nosuch'"
    done
    "$NPUMOE_BUILD/kcheck" --list >"$work/list"
    awk '/^\| kernel \| what/ { on = 1 } /^\| product \| slot \| tier/ { on = 1; print "" } !/^\|/ { on = 0 } on' docs/kernels.md >"$work/docs"
    check "docs/kernels.md has the tables of kern.def as kcheck --list prints them" cmp "$work/list" "$work/docs"
    check "... which is one" test "$(wc -l <"$work/list")" -gt 10
    # that every kernel has a bench says the linker; these two were without one
    "$NPUMOE_BUILD/kcheck" --bench --tier scalar --filter kv_ >"$work/out" 2>&1
    check "kcheck --bench has scores and values of a cache: three types, one row and eight" test \
        "$(grep -c '^scalar *kv_scores [FQ].* GFLOP/s' "$work/out") $(grep -c '^scalar *kv_values [FQ].* GFLOP/s' "$work/out")" = '6 6'
else
    skip "no kcheck"
fi
done_testing
