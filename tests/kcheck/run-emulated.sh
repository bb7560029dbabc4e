#!/bin/sh
# Runs kcheck on a processor that this machine is not: every tier that it has must work there, and no
# other may be tried; then the unit tests that are beside it in emulated/: whole prompts' attention, products, the probe's loops. Prints
# TAP; what lacks its tool is skipped.
#   usage: run-emulated.sh CPU KCHECK     (as qemu calls it; for arm64 statically linked)
# Tools: qemu-x86_64[-static], qemu-aarch64[-static].
cpu=$1 kcheck=$2
n=0 failed=0 child=
tmp=$(mktemp) || exit 1
trap 'rm -f "$tmp" "$tmp.err"' EXIT
# A time limit is an alarm for this shell alone; the emulator would go on for an hour.
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null; exit 1' ALRM TERM INT HUP

result() { # STATUS NAME
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else
        echo "not ok $n - $2"
        failed=1
    fi
}

skip() { # NAME REASON
    n=$((n + 1))
    echo "ok $n - $1 # SKIP $2"
}

find_tool() { # NAME: the first that exists of NAME-static, NAME
    command -v "$1-static" 2>/dev/null || command -v "$1" 2>/dev/null
}

# QEMU TIERS [PRODUCT...]: kcheck on this CPU passes, runs exactly these tiers, and these products.
emulate() {
    qemu=$1 tiers=$2
    shift 2
    if [ -z "$qemu" ]; then
        skip "kcheck on $cpu" "no qemu"
        return
    fi
    if [ ! -x "$kcheck" ]; then
        skip "kcheck on $cpu" "$kcheck was not built"
        return
    fi
    "$qemu" -cpu "$cpu" "$kcheck" --emulated >"$tmp" 2>"$tmp.err" &
    child=$!
    wait "$child"
    status=$?
    child=
    [ $status -eq 0 ] || sed 's/^/# /' "$tmp.err" >&2
    rm -f "$tmp.err"
    ran=$(sed -n '/SKIP/d; s/^ok [0-9]* - \([a-z0-9]*\) gemm_nt:.*/\1/p' "$tmp" | tr '\n' ' ')
    result $status "kcheck on $cpu passes"
    if [ "$ran" != "$tiers " ]; then
        echo "# found tiers: $ran, expected: $tiers" >&2
        result 1 "$cpu runs the tiers $tiers"
    else
        result 0 "$cpu runs the tiers $tiers"
    fi
    for product in "$@"; do
        grep -q "^ok [0-9]* - $product:" "$tmp"
        result $? "$cpu runs the product $product"
    done
}

# QEMU NAME...: unit tests on this CPU.
units() {
    qemu=$1
    shift
    for name in "$@"; do
        program=${kcheck%/*}/emulated/$name
        if [ -z "$qemu" ] || [ ! -x "$program" ]; then
            skip "$name on $cpu" "no qemu, or it was not built"
            continue
        fi
        "$qemu" -cpu "$cpu" "$program" >"$tmp" 2>&1 &
        child=$!
        wait "$child"
        status=$?
        child=
        [ $status -eq 0 ] || grep -v '^ok' "$tmp" | sed 's/^/# /' >&2
        result $status "$name on $cpu passes"
    done
}

x86=$(find_tool qemu-x86_64)
arm=$(find_tool qemu-aarch64)
case $1 in
Nehalem) emulate "$x86" scalar ;;
Haswell) emulate "$x86" 'scalar avx2' 'avx2 dot_q avx2' 'avx2 i16 avx2' ;;
cortex-a72) emulate "$arm" 'scalar neon' 'neon dot_q neon' ;;
cortex-a76) emulate "$arm" 'scalar neon' 'neon i8x2 sdot' ;;
max) emulate "$arm" 'scalar neon' 'neon i8x2 smmla' 'neon i8x2 sdot' \
    'neon bf16 bfmmla' 'neon bf16x2 bfmmla' 'neon bf16x3 bfmmla' ;;
*) echo "Bail out! no CPU called '$1'" && exit 1 ;;
esac
case $1 in
Nehalem) units "$x86" test_probe_loops ;;
Haswell) units "$x86" test_dot test_probe_loops ;; # the others take an hour of its emulation, and run on x86 anyway
cortex-a72 | max) units "$arm" test_attention test_dot test_matmul test_probe_loops ;;
cortex-a76) units "$arm" test_dot test_matmul test_probe_loops ;; # attention as on cortex-a72
esac
echo "1..$n"
exit $failed
