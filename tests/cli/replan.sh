#!/bin/sh
# run --then: several prompts, and a plan that adapts between them when they load the experts otherwise than what it
# was made for; --no-replan; a device that fails while loading the other plan.
. "$(dirname "$0")/common/tap.sh"
model=$(tiny olmoe)
words() { # SEED LETTERS: text of words of these letters only
    perl -e 'srand $ARGV[0]; my @l = split //, $ARGV[1];
        print join(" ", map { $l[rand @l] x (1 + rand 3) } 1 .. 450), "\n"' "$1" "$2"
}
words 1 abc >"$work/tales"
for i in 1 2 3; do words "$i" xyz >"$work/code$i"; done

"$NPUMOE" calibrate -m "$model" -f "$work/tales" -o "$work/profile" -t 1 >/dev/null 2>"$work/err" ||
    { echo "Bail out! calibrate: $(cat "$work/err")"; exit 255; }
plan() { # NAME OPTIONS...: three slots, so that a plan has to choose
    name=$1
    shift
    run plan "$work/profile" --chunk 64 -t 1 --isa scalar -q --slots 3 --max-group 2 \
        --max-capacities 1 -o "$work/$name" "$@"
    is_code 0 "plan $name"
}
# A device that is said to be a thousand times faster, and a host on which experts outweigh the rest: a busy machine measures
# anything.
plan measured --npu-isa scalar --save-cost "$work/slow"
perl -MJSON::PP -0ne 'my $t = decode_json($_); $_->[1] *= 1e-3 for @{$t->{device_expert}};
    $_->[1] *= 50 for @{$t->{host_expert}};
    $t->{launch_us} = $t->{launch_host_us} = 0.01; print encode_json($t)' "$work/slow" >"$work/cost"
plan fast --cost "$work/cost"

prompts() { # OPTIONS...: prompts of another kind
    run run -m "$model" -f "$work/code1" --then "$work/code2" --then "$work/code3" -n 4 --temp 0 \
        -c 4096 -t 1 --isa scalar --precision fp32 "$@"
}
by_plan() {
    prompts --plan "$work/fast" --stats --npu-isa scalar --npu-precision fp32 "$@"
}
replans() { sed -n 's/^  plans .*; \([0-9]*\) taken.*/\1/p' "$work/err"; }

prompts
is_code 0 "three prompts on the CPU"
cp "$work/out" "$work/cpu"
check "... named" test "$(grep -c "then: $work/code[23]" "$work/err")" = 2
check "... three timings" test "$(grep -c 'prompt eval time' "$work/err")" = 3
by_plan -v
is_code 0 "three prompts by plan"
check "... another plan between them ($(replans))" test "$(replans)" = 1
check "... which the log explains" grep -q 'another plan for other loads: .* less predicted' "$work/err"
check "... the same answers" cmp "$work/out" "$work/cpu"
by_plan --stats-out "$work/stats" --plan-out "$work/last"
run explain "$work/fast" --after "$work/stats"
is_code 1 "the plan that was replaced is not compared with what ran"
check "... and what to give is named" grep -q 'the plan was replaced in that run (1 times), .*--plan-out writes, .*--no-replan' "$work/err"
run explain "$work/last" --after "$work/stats"
is_code 0 "the one that took its place is"
run explain "$work/last" --after "$work/stats" --json
check "... with its own figures" perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); my $sum = 0;
    $sum += $_->{tokens} for @{$t->{spans}}; exit !($t->{tokens} > 0 && $sum == $t->{tokens})' <"$work/out"
sed '/"plan_hash"/d' "$work/stats" >"$work/older"
run explain "$work/last" --after "$work/older"
is_code 1 "an older report does not say whose its figures are"
check "... says so" grep -q 'this report does not say which; run again with --plan-out' "$work/err"
sed 's/"plan_hash": "./"plan_hash": "x/; s/"changes": 1/"changes": 0/' "$work/stats" >"$work/alien"
run explain "$work/last" --after "$work/alien"
is_code 1 "a plan that only looks the same"
check "... is refused" grep -q 'by another plan than this one, with as many programs' "$work/err"
by_plan --no-replan --stats-out "$work/stats"
run explain "$work/fast" --after "$work/stats"
is_code 0 "... one that was kept is"
by_plan --no-replan
is_code 0 "--no-replan"
check "... keeps the plan" test "$(grep -c '^  plans' "$work/err")" = 0
check "... and the answers" cmp "$work/out" "$work/cpu"
by_plan --plan-out "$work/adapted"
is_code 0 "--plan-out"
check "... is another plan" test "$(cmp -s "$work/fast" "$work/adapted"; echo $?)" = 1
run run -m "$model" -f "$work/code1" -n 4 --temp 0 -c 4096 -t 1 --isa scalar --plan "$work/adapted" --npu-isa scalar --stats
is_code 0 "... that runs"
check "... on the device" grep -q 'device .* launches' "$work/err"
by_plan --no-replan --plan-out "$work/kept"
check "... or the same one" cmp "$work/fast" "$work/kept"
run run -m "$model" -p abc -n 1 --plan-out "$work/none"
is_code 1 "--plan-out without a plan"
run run -m "$model" -f "$work/code1" -n 1 --plan "$work/fast" --plan-out "$work/code1"
is_code 1 "--plan-out would replace the prompt"
run run -m "$model" -p abc -n 1 --plan "$work/fast" --plan-out "$work/no/such/folder"
is_code 1 "--plan-out where there is no folder"
by_plan --npu-debug fail-load=5
is_code 0 "another plan that cannot be loaded"
check "... is none" test "$(replans)" = 0
check "... and said" grep -q 'the old plan stays: another one cannot be loaded' "$work/err"
check "... and counted" grep -q '^  plans .*; 1 could not be loaded' "$work/err"
check "... the same answers" cmp "$work/out" "$work/cpu"

run run -m "$model" -p abc -n 1 --then "$work/none"
is_code 1 "--then and no such file"
check "... before the first answer" test ! -s "$work/out"
check "... by name" grep -q "^npumoe: --then: cannot read $work/none: " "$work/err"
run run -m "$model" -p abc -n 1 --no-replan
is_code 1 "--no-replan without a plan"
run run -m "$model" -p abc -n 1 --then "$work/tales" --log-file "$work/tales"
is_code 1 "--log-file would replace a prompt"
done_testing
