#!/bin/sh
# verify: a plan on a device against the CPU path: exact policies lose nothing, lossy ones say what they lost,
# gates fail with the numbers, and what checks nothing is refused.
. "$(dirname "$0")/common/tap.sh"
json() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); '"$1" <"$2"; }
model=$(tiny olmoe)
perl -e 'srand 7; print join(" ", map { chr(97 + rand 26) x (1 + rand 3) } 1 .. 900), "\n"' >"$work/text"

"$NPUMOE" calibrate -m "$model" -f "$work/text" -o "$work/profile" -t 1 >/dev/null 2>"$work/err" ||
    { echo "Bail out! calibrate: $(cat "$work/err")"; exit 255; }
plan() { # NAME OPTIONS...
    name=$1
    shift
    run plan "$work/profile" --chunk 64 -t 1 --isa scalar --in-flight 1 --all-experts -q -o "$work/$name" "$@"
    is_code 0 "plan $name"
}
verify() { run verify -m "$model" -f "$work/text" -t 1 --isa scalar --npu-isa scalar -c 256 --chunks 2 "$@"; }
# A device of scalar kernels is not worth a launch, and a busy machine measures anything: so what a plan is
# made with is a device that is said to be a thousand times faster.
plan measured --npu-isa scalar --save-cost "$work/slow"
perl -MJSON::PP -0ne 'my $t = decode_json($_); $_->[1] *= 1e-3 for @{$t->{device_expert}};
    $t->{launch_us} = $t->{launch_host_us} = 0.01; print encode_json($t)' "$work/slow" >"$work/cost"
plan spill --cost "$work/cost"
plan repass --cost "$work/cost" --overflow repass
plan prune --cost "$work/cost" --policy paper --overflow prune

for name in spill repass; do
    verify --plan "$work/$name" --max-kl 1e-4 --min-agreement 99 --greedy 20 --prompts 3 --prompt-tokens 64 --json
    is_code 0 "$name passes"
    check "... 510 positions" json 'exit !($t->{compared}{positions} == 510 && $t->{passed})' "$work/out"
    check "... by plan" json 'exit !($t->{plan}{tokens} >= 512 && $t->{plan}{device_rows} > 0)' "$work/out"
    check "... nothing dropped" json 'exit !($t->{plan}{dropped} == 0 && $t->{plan}{rerouted} == 0)' "$work/out"
    check "... every answer is accounted for" json 'my $g = $t->{greedy}; exit !($g->{equal} + @{$g->{differences}} == 3)' "$work/out"
done
# The same plan on a device that keeps its weights packed: every figure is the same.
sed 's/"weights" *: *"file"/"weights": "packed"/' "$work/spill" >"$work/packed"
check "a plan for packed weights" grep -q '"packed"' "$work/packed"
for name in spill packed; do
    verify --plan "$work/$name" --stats --json
    is_code 0 "$name"
    json 'print JSON::PP->new->canonical->encode($t->{compared})' "$work/out" >"$work/$name.compared"
    cp "$work/err" "$work/$name.err"
done
check "... gives the same bits" cmp "$work/spill.compared" "$work/packed.compared"
check "... and was run so" grep -q 'weights packed' "$work/packed.err"
verify --plan "$work/spill"
is_code 0 "as text"
check "... the base" grep -q '^base  *CPU, scalar, precision auto, 1 thread$' "$work/out"
check "... what is checked" grep -q '^checked .* tile by plan: policy ours, overflow spill' "$work/out"
check "... what was dropped" grep -q ' 0 pairs dropped (0.000 %), 0 moved' "$work/out"

# ---- gates ----
verify --plan "$work/prune"
is_code 1 "a lossy plan is refused"
check "... unless allowed" grep -q -e '--lossy' "$work/err"
verify --plan "$work/prune" --lossy --json
is_code 0 "... with --lossy"
check "... its overflow is counted" json 'exit !($t->{plan}{overflow_policy} eq "prune" && $t->{plan}{overflow} > 0 && $t->{plan}{dropped} > 0)' "$work/out"
verify --plan "$work/prune" --lossy --max-kl 1e-9
is_code 1 "--max-kl"
check "... with numbers" grep -q '^npumoe: verify: mean KL divergence .* over 510 positions is above --max-kl 1e-09 (largest' "$work/err"

# ---- explain after a run ----
head -c 700 "$work/text" >"$work/short"
run run -m "$model" -f "$work/short" -n 1 -t 1 --isa scalar --npu-isa scalar --plan "$work/spill" --stats-out "$work/stats"
is_code 0 "run --stats-out"
run explain "$work/spill" --after "$work/stats"
is_code 0 "explain --after"
check "... how near the plan was" grep -q '^how near  *predicted time is off by [0-9.]* % (median), [0-9.]* % (P90), [0-9.]* % (worst) of [0-9]*$' "$work/out"
check "... a line for each layer" test "$(grep -c '^ *[012]  *[0-9.]* *[0-9.]* .*%' "$work/out")" -ge 3
run explain "$work/spill" --after "$work/stats" --json
is_code 0 "explain --after --json"
check "... whole chunks are judged, others are not" json 'my @s = @{$t->{spans}}; for (@s) { exit 1 if ($_->{tokens} == 64) != defined $_->{us}{predicted} } exit !(@s > 3 && $t->{accuracy}{spans} == grep { $_->{tokens} == 64 } @s)' "$work/out"
check "... times add up" json 'my ($sum, $all) = (0, $t->{per_chunk}{us}{measured} * $t->{chunks}); $sum += $_->{us}{measured} for @{$t->{spans}}; exit !($sum > 0 && $sum <= $all * 1.001)' "$work/out"
check "... nothing was dropped" json 'exit !($t->{per_chunk}{dropped}{measured} == 0)' "$work/out"
check "... host and waiting are the time, of the whole and of layers" json '
    for my $f ($t->{per_chunk}, @{$t->{layers}}) {
        exit 1 if abs($f->{host_us}{measured} + $f->{wait_us}{measured} - $f->{us}{measured}) > 1e-3 * $f->{us}{measured};
    }
    exit 0' "$work/out"
# Launches of dense parts are launches: a plan predicts both together.
launches() { json 'print $t->{measured}{launches} + $t->{measured}{part_launches}' "$1"; }
perl -pe 's/"part_launches": \d+/"part_launches": 30/' "$work/stats" >"$work/stats.parts"
run explain "$work/spill" --after "$work/stats.parts" --json
is_code 0 "a run with dense parts on the device"
check "... launches are of both kinds" json 'exit !(abs($t->{per_chunk}{launches}{measured} * $t->{chunks} - '"$(launches "$work/stats.parts")"') < 0.1)' "$work/out"
run explain "$work/repass" --after "$work/stats"
is_code 1 "the figures of another plan"
check "... are named" grep -q 'the run was by another plan: policy ours, overflow spill' "$work/err"
run explain "$work/spill" --after "$work/spill"
is_code 1 "a plan is no report"
run run -m "$model" -f "$work/short" -n 1 --plan "$work/spill" --stats-out "$work/spill"
is_code 1 "figures in the plan's place"

# ---- without a plan ----
run verify -m "$model" -f "$work/text" -t 1 --isa scalar --precision fp32 --chunks 1 --max-kl 0 --json
is_code 0 "the reference against itself: KL is 0"
check "... and so is the difference of logits" json 'exit !($t->{compared}{logit_difference}{max} == 0 && $t->{compared}{top1}{same_share} == 1)' "$work/out"
run verify -m "$model" -f "$work/text" -t 1 --chunks 1 --json
is_code 0 "the best kernels against the reference"
check "... the same perplexity within 1 %" json 'exit !(abs($t->{compared}{perplexity}{other} / $t->{compared}{perplexity}{base} - 1) < 0.01)' "$work/out"

# Noise is not what the worst position says: tokens whose routing flips are far off, and no tie is as wide.
run verify -f docs/kernels.md -t 1 -c 1024 --chunks 2 --precision fast --against fp32 --greedy 4 --prompts 2 --prompt-tokens 64 --json
is_code 0 "the demo model in products of few bits"
check "... the noise is well below the largest difference" json '
    my ($g, $max) = ($t->{greedy}, $t->{compared}{logit_difference}{max});
    exit !($g->{noise_share} == 0.99 && ($max == 0 || $g->{noise} > 0 && $g->{noise} < 0.7 * $max))' "$work/out"

# ---- refusals ----
run verify -m "$model" -f "$work/text" --against cpu
is_code 1 "--against cpu without a plan"
echo 'npumoe: verify: --against cpu needs --plan: else both ways are the same' | err_is "... says why"
run verify -m "$model" -p "a" --plan "$work/spill"
is_code 1 "a text of one token"
sed 's/"crossover": [0-9]*/"crossover": null/' "$work/spill" >"$work/never"
verify --plan "$work/never"
is_code 1 "a plan that runs nothing verifies nothing"
check "... and says so" grep -q 'not one token went by the plan' "$work/err"
verify --plan "$work/spill" --npu-debug fail-submit=1-100000 --max-kl 1e-4
is_code 1 "a device that does nothing verifies nothing"
check "... says so" grep -q 'verify: the device completed not one launch ([0-9]* failed), so nothing was verified' "$work/err"
# A host of which the plan says that its experts take no time.
perl -MJSON::PP -0ne 'my $t = decode_json($_); $_->[1] *= 1e-6 for @{$t->{cost}{host_expert}};
    $_->{price} = 0.5 for @{$t->{layers}}; $_->{parts} = [] for @{$t->{layers}};
    $t->{crossover} = 1; print encode_json($t)' "$work/spill" >"$work/idle"
verify --plan "$work/idle"
is_code 1 "a plan of which nothing is worth a launch verifies nothing"
check "... says so" grep -q 'verify: nothing was worth a launch on the device, so nothing was verified' "$work/err"
check "... and a warning why" test "$(grep -c 'the device completed no launch of the prompt, the host computed all of it' "$work/err")" -eq 1
verify --plan "$work/idle" --require-npu
is_code 1 "... with --require-npu"
check "... says why" grep -q 'idle: the device completed no launch of the prompt: .*--npu-from does not' "$work/err"
verify --plan "$work/spill" --require-npu --npu-debug fail-launch=3
is_code 1 "--require-npu and a launch that fails"
verify --plan "$work/spill" --npu-debug fail-launch=3 --max-kl 1e-4 --json
is_code 0 "a launch that fails: the CPU does its work"
check "... and it is counted" json 'exit !($t->{plan}{failures} == 1 && $t->{plan}{fallbacks} == 1)' "$work/out"
done_testing
