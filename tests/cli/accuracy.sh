#!/bin/sh
# How far the products of every tier are from fp32, for the fast weight types and both caches, with the demo model:
#   its own tales         mean KL divergence of the next token below the bars of docs/accuracy.md, same first choice > 99 %
#   their words shuffled  median below 2e-5, with a cache of 8 bits 2e-4. Here the model is sure of nothing, so every rounding shows; means would be those
#                         of the few tokens whose experts change, as they do with any other order of fp32 sums, too.
# The reference is --precision fp32 with the same cache.
. "$(dirname "$0")/common/tap.sh"
leave() { echo "1..0 # SKIP $1"; exit 0; }
[ "${NPUMOE_CONFIG:-release}" = release ] || leave "a real model, so release builds only"
demo=models/npumoe-tales-30M-Q6_K.gguf
awk '{ for (i = 1; i <= NF; i++) print (n++ * 7919) % 9973, $i }' docs/demo/tales.txt | sort -n -s -k 1,1 |
    cut -d ' ' -f 2 | tr '\n' ' ' >"$work/words"
cp docs/demo/tales.txt "$work/tales"

base_of() { # FILE TEXT CACHE
    run perplexity -m "$1" -f "$work/$2" -c 512 --chunks 3 --no-perf --precision fp32 -ctk "$3" -ctv "$3" \
        --kl-divergence-base "$work/base.kld"
    [ "$code" -eq 0 ] || fail "reference of $(basename "$1"), $2, $3 cache: $(cat "$work/err")"
}
compare() { # FILE ARGS...: $mean, $median, $same (percent)
    mean='' median='' same=''
    run perplexity -m "$@" --kl-divergence --kl-divergence-base "$work/base.kld" -c 512 --no-perf
    mean=$(sed -n 's/^Mean KLD *: *\([^ ]*\).*/\1/p' "$work/out")
    median=$(sed -n 's/^Median KLD *: *\([^ ]*\).*/\1/p' "$work/out")
    same=$(sed -n 's/^Same top token *: *\([^ ]*\).*/\1/p' "$work/out")
}
below() { [ -n "$1" ] && awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }
above() { [ -n "$1" ] && awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'; }

checks() { # TYPE BAR
    file=$work/$1.gguf
    run quantize --allow-requantize "$demo" "$file" "$1"
    is_code 0 "the demo model in $1"
    for cache in f16 q8_0; do
        base_of "$file" tales $cache
        for tier in $tiers; do
            compare "$file" --isa "$tier" -ctk $cache -ctv $cache
            check "$1, $tier, $cache cache: mean KL $mean below $2" below "$mean" "$2"
            check "... the same first choice at more than 99 % ($same)" above "$same" 99
        done
        limit=2e-5
        [ $cache = f16 ] || limit=2e-4
        base_of "$file" words $cache
        for tier in $tiers; do
            compare "$file" --isa "$tier" -ctk $cache -ctv $cache
            check "... shuffled words: median KL $median below $limit" below "$median" $limit
        done
    done
}

# The tier scalar has no other products than fp32.
tiers=$("$NPUMOE" doctor | sed -n 's/^kernels .*usable: \([^;]*\);.*/\1/p' | tr -d ',' | sed 's/scalar//')
[ -n "$(echo "$tiers" | tr -d ' ')" ] || leave "this machine has the tier scalar only, which is the reference"
for type in BF16 F16 Q8_0; do checks $type 2e-4; done
for type in Q6_K Q4_K_M Q4_0 MXFP4; do checks $type 1e-3; done

# 8 bits of activations: coarser, and no coarser than the 5e-4 that weights rounded to 8 bits cost below.
base_of "$work/Q4_K_M.gguf" words f16
for tier in $tiers; do
    compare "$work/Q4_K_M.gguf" --isa "$tier" --precision fast
    check "--precision fast, $tier: median KL $median below 1e-3" below "$median" 1e-3
done

# These bars can be missed: what weights of 8 bits do to those of 16.
base_of "$work/F16.gguf" words f16
compare "$work/Q8_0.gguf"
check "weights rounded to 8 bits miss the median (KL $median)" above "$median" 2e-4
base_of "$work/F16.gguf" tales f16
compare "$work/Q4_0.gguf"
check "weights rounded to 4 bits miss the mean (KL $mean)" above "$mean" 1e-3
done_testing
