#!/bin/sh
# Runs kcheck on processors that this machine is not: every tier that such a processor has must work
# there, and no other may be tried. Prints TAP; what lacks its tool is skipped.
#   usage: run-emulated.sh BUILD_X86 BUILD_ARM     (folders with a statically linked kcheck)
# Tools: qemu-x86_64[-static], qemu-aarch64[-static].
x86=$1 arm=$2
n=0 failed=0
tmp=$(mktemp) || exit 1
trap 'rm -f "$tmp"' EXIT

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

# CPU TIER... [PRODUCT...]: kcheck on that CPU passes, runs exactly these tiers, and these products.
emulate() {
    qemu=$1 kcheck=$2 cpu=$3 tiers=$4
    shift 4
    if [ -z "$qemu" ]; then
        skip "kcheck on $cpu" "no qemu"
        return
    fi
    if [ ! -x "$kcheck" ]; then
        skip "kcheck on $cpu" "$kcheck was not built"
        return
    fi
    "$qemu" -cpu "$cpu" "$kcheck" --emulated >"$tmp" 2>"$tmp.err"
    status=$?
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

qemu_x86=$(find_tool qemu-x86_64)
qemu_arm=$(find_tool qemu-aarch64)
emulate "$qemu_x86" "$x86/kcheck" Nehalem scalar
emulate "$qemu_x86" "$x86/kcheck" Haswell 'scalar avx2'
emulate "$qemu_arm" "$arm/kcheck" cortex-a72 'scalar neon'
emulate "$qemu_arm" "$arm/kcheck" cortex-a76 'scalar neon' 'neon i8x2 sdot'
emulate "$qemu_arm" "$arm/kcheck" max 'scalar neon' 'neon i8x2 smmla' 'neon i8x2 sdot' \
    'neon bf16 bfmmla' 'neon bf16x2 bfmmla' 'neon bf16x3 bfmmla'
echo "1..$n"
exit $failed
