#!/bin/sh
# run, logits, perplexity and bench by plan, on the demo model: it runs or says why not; a device that fails
# costs nothing but time; what changes results needs a word. Times are not judged.
. "$(dirname "$0")/common/tap.sh"
json() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); '"$1" <"$2"; }
text=$work/text
head -c 1200 docs/kernels.md >"$text"

run calibrate -f docs/kernels.md --chunks 2 -t 1 -o "$work/profile"
is_code 0 "a profile of the demo model"
run plan "$work/profile" --chunk 128 -t 1 --policy ladder --save-cost "$work/cost" -q -o "$work/ladder"
is_code 0 "policy ladder"
run plan "$work/profile" --chunk 128 --cost "$work/cost" --policy naive -q -o "$work/all"
is_code 0 "all experts on the device"
run plan "$work/profile" --chunk 128 --cost "$work/cost" --policy naive --overflow prune -q -o "$work/wide"
is_code 0 "overflow prune"
# Capacities of 16 rows in place of the chunk, so that something is dropped on every machine.
perl -0pe 's/("capacities": *\[\s*)128/${1}16/g' "$work/wide" >"$work/prune"
run plan "$work/profile" --chunk 128 --device cpu -t 1 -q -o "$work/cpu"
is_code 0 "a plan for no device"

# ---- it runs ----
answer() { run run -f "$text" -n 4 --temp 0 -t 1 --precision full "$@"; }
run run -f "$text" -n 4 --temp 0 -t 1 --precision full
is_code 0 "run without a plan"
cp "$work/out" "$work/plain"
answer --plan "$work/all" --npu-from 2 --require-npu --stats
is_code 0 "run --plan"
check "... the same answer" cmp "$work/out" "$work/plain"
check "... and the device did its part" grep -Eq 'occupied, [1-9][0-9]* launches' "$work/err"
check "... nothing dropped" grep -q ' 0 dropped' "$work/err"
answer --plan "$work/ladder" --npu-from 2 --npu-launch-us 20 --stats
is_code 0 "a plan to compare with, and added latency"
check "... the same answer" cmp "$work/out" "$work/plain"
check "... marked" grep -q '20 us added to each launch' "$work/err"
check "... another precision than it was made for is named" grep -q "it was made for precision 'auto' of the host's products, here it is 'full'" "$work/err"
run run -f "$text" -n 4 --temp 0 -t 1 --precision full --plan "$work/cpu"
is_code 0 "a plan without device parts"
check "... the same answer" cmp "$work/out" "$work/plain"
run logits -f "$text" --plan "$work/all" --npu-from 2 --require-npu
is_code 0 "logits --plan"
run perplexity -f docs/kernels.md -c 256 --chunks 1 --plan "$work/all" --npu-from 2 --require-npu --stats
is_code 0 "perplexity --plan"
check "... by plan" grep -q '255 tokens by plan' "$work/err"
run bench --plan none,"$work/all" --npu-from 2 -p 128 -n 0 -r 2 --no-probe -o json --npu-launch-us 20
is_code 0 "bench --plan none,FILE"
check "... a row each, the device's figures in the second" json '
    my ($n, $p) = @$t;
    exit !(@$t == 2 && $n->{plan} eq "none" && $p->{plan} =~ /all$/ && $n->{launches} == 0 && $p->{launches} > 0
        && $p->{plan_tokens} == 128 && $p->{device_busy_seconds} > 0 && $p->{dropped_pairs} == 0
        && $p->{added_launch_us} == 20 && @{$p->{samples_ns}} == 2)' "$work/out"

by_bench() { run bench --no-probe -r 1 --npu-from 2 "$@"; }
by_bench --plan none,"$work/ladder" -p 128 -n 0 --stats --stats-out "$work/stats" --trace-out "$work/trace"
is_code 0 "bench --stats-out of one test"
check "... for explain --after" "$NPUMOE" explain "$work/ladder" --after "$work/stats"
check "... of one repetition" json 'exit !($t->{tokens} == 128 && $t->{measured}{launches} > 0)' "$work/stats"
check "... and the trace" json 'exit !(@{$t->{traceEvents}} > 3)' "$work/trace"
check "... and on standard error, by name" grep -q 'ladder: the last of 1 repetitions of 128 + 0 tokens' "$work/err"
check "... the plan stays: no loads are counted" test "$(grep -c '^  plans' "$work/err")" = 0
by_bench --plan "$work/ladder" -p 128 -n 4 --stats-out "$work/two"
is_code 1 "bench --stats-out of two tests"
echo 'npumoe: --stats-out: the file is of one test by one plan, found 2; such as -p 512 -n 0' |
    err_is "... says what it takes"
by_bench --plan "$work/ladder","$work/all" -p 128 -n 0 --trace-out "$work/two"
check "... and of two plans" grep -q 'trace-out: .* found 2' "$work/err"
check "... nothing was written" test ! -e "$work/two"
by_bench --plan "$work/ladder" -p 128 -n 0 --stats-out "$work/ladder"
check "... nor over the plan" grep -q 'ladder is the file of --plan, which must not' "$work/err"
by_bench --plan "$work/ladder" -m "$(tiny olmoe)" -m "$(tiny llama)"
echo 'npumoe: --plan: a plan is for one model, found 2 with -m' | err_is "a plan and two models"
answer --plan "$work/cpu" --stats --stats-out "$work/stats"
is_code 0 "what a plan for no device did"
check "... nothing" grep -q 'nothing went by the plan' "$work/err"
run explain "$work/cpu" --after "$work/stats"
check "... for that reason" grep -q 'in that run: it leaves everything to the host$' "$work/err"

answer --plan "$work/all" --npu-from 2 --stats -n 1
check "one thread is one" grep -q '^device tile (.*, 1 thread): [0-9]* programs, ' "$work/err"
run run -p a -n 2 --temp 0 -t 1 --plan "$work/all" --npu-from 2 --require-npu --stats
is_code 0 "a prompt of one token is the host's, with --require-npu, too"
check "... which --stats says" grep -q '^  nothing went by the plan: the host computed all of it alone (single tokens always are its own)$' "$work/err"

# ---- stopped in a prompt ----
run explain "$work/all"
check "the last layer has one row of a prompt" grep -q '^of the last layer a prompt wants one row' "$work/out"
answer --plan "$work/all" --npu-from 2 --no-replan --stats-out "$work/stats"
run explain "$work/all" --after "$work/stats"
check "... which --after says, too" grep -q '^predicted of the last layer are all rows; a prompt wants one' "$work/out"
check "... and nothing of a stop" test "$(grep -c STOPPED "$work/out")" -eq 0
sed 's/"stopped": 0/"stopped": 1/' "$work/stats" >"$work/stopped"
run explain "$work/all" --after "$work/stopped"
is_code 0 "what a run did until it was stopped"
check "... is marked" grep -q 'STOPPED 1 time in a prompt' "$work/out"
for seconds in 0.7 3 12; do # launches take long: the first chunk is not through
    "$NPUMOE" run -f "$text" -n 0 -t 1 --plan "$work/all" --npu-from 2 --npu-launch-us 60000 --stats --stats-out "$work/stopped" \
        </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    sleep $seconds
    kill -TERM $pid
    wait $pid
    code=$?
    ! grep -q ' 0 launches' "$work/err" || continue
    break
done
is_code 143 "a run that is stopped in its first chunk"
check "... has launched" grep -Eq 'occupied, [1-9][0-9]* launch' "$work/err"
check "... says that it was stopped" grep -q '^  STOPPED in a prompt: ' "$work/err"
check "... and not that the plan did nothing" test "$(grep -c 'nothing went by the plan' "$work/err")" -eq 0
run explain "$work/all" --after "$work/stopped"
is_code 1 "... is nothing to compare with"
check "... for that reason" grep -q 'that run was stopped before a chunk was through' "$work/err"
sed '/"stopped"/d' "$work/stopped" >"$work/older"
run explain "$work/all" --after "$work/older"
check "... in an older report, too" grep -q 'that run was stopped before a chunk was through' "$work/err"

# ---- or says why not ----
run run -f "$text" -n 1 --temp 0 -t 1 --isa scalar --plan "$work/all" --npu-from 2 --npu-isa scalar --npu-precision fp32
is_code 0 "other kernels than the plan was made for"
check "... both are named" grep -Eq "it was made for kernels '[^']+' of the host and products '[^']+' of the device, here are 'scalar' and '[^']+'" "$work/err"
run run -p x -n 1 --stats-out "$work/two"
check "figures without a plan are bench's" grep -q -- '--stats-out needs --plan: .* measured by npumoe bench' "$work/err"
run run -p "Once upon" -n 1 --temp 0 --plan "$work/all" --npu-from 64
is_code 0 "a short prompt stays on the host"
check "... with a warning" grep -q 'all: the prompt does not run by plan: --npu-from asks' "$work/err"
run run -p "Once upon" -n 1 --temp 0 --plan "$work/all" --npu-from 64 --require-npu
is_code 1 "... an error with --require-npu"
answer --plan "$work/all" --npu-from 64 -ub 32 --require-npu
is_code 1 "chunks too short for the plan, and --require-npu"
check "... says so" grep -q "its chunks must have at least 64 tokens, and this session's have 32" "$work/err"
run run -p x -n 1 --plan "$work/cpu" --require-npu
is_code 1 "nothing on a device, and --require-npu"
run run -p x -n 1 --plan "$work/all" --npu-from 129
is_code 1 "--npu-from beyond the plan's chunk"
check "... says the range" grep -q 'found 129, expected 2 to 128' "$work/err"
for fault in fail-launch=5-3 fail-launch=0 fail-load=18446744073709551617 fail-load=-1 late=0x; do
    run run -p x -n 1 --plan "$work/all" --npu-debug $fault
    is_code 1 "--npu-debug $fault"
    check "... is refused" grep -q "debug_flags: found '.*', expected fail-load=N, .*numbers of 1 and up, N up to M" "$work/err"
done
run run -p x -n 1 --plan "$work/all" --npu-cpu 0-512
is_code 1 "more CPUs than a device has threads"
check "... says how many" grep -q -- '--npu-cpu: found 513 CPUs, expected at most 512' "$work/err"
run run -p x -n 1 --slots 3
echo 'npumoe: --slots needs --plan' | err_is "device options without a plan"
run run -p x -n 1 --plan "$work/all" --plan "$work/cpu"
is_code 1 "two plans are bench's"
run run -m "$(tiny olmoe)" -p x -n 1 --plan "$work/all"
is_code 1 "another model's plan"
check "... the message has the file and both models" grep -q '/all: plan: it is for another model' "$work/err"
sed '0,/Q6_K/s//Q8_0/' "$work/all" >"$work/types"
run run -p x -n 1 --plan "$work/types"
is_code 1 "a plan for another quantisation"
check "... names both" grep -Eq 'types: .*(Q8_0.*Q6_K|Q6_K.*Q8_0)' "$work/err"
sed '/"layer": 3,/,/"price"/s/"down": "Q6_K"/"down": "Q8_0"/' "$work/all" >"$work/types"
run run -p x -n 1 --plan "$work/types"
is_code 1 "a plan for another quantisation of one layer"
check "... says where" grep -q 'layer 3, ffn_down_exps: found Q8_0, expected Q6_K' "$work/err"
sed '/"layers"/,/"cost"/{/"types"/d;}' "$work/all" >"$work/types"
answer --plan "$work/types" --npu-from 2 --require-npu
is_code 0 "a plan without types of its layers"
head -c 900 "$work/all" >"$work/half"
run run -p x -n 1 --plan "$work/half"
is_code 1 "half a plan"
check "... where it ends" grep -q 'half: plan: not JSON: line' "$work/err"
answer --plan "$work/all" --npu-from 2 --slots 1
is_code 0 "too few slots: the host does the rest"
check "... the same answer" cmp "$work/out" "$work/plain"
check "... one line about all of them" test "$(grep -c 'were not loaded' "$work/err")" -eq 1
answer --plan "$work/all" --npu-from 2 --slots 1 --require-npu
is_code 1 "... an error with --require-npu"
check "... with the number of slots" grep -q 'slot' "$work/err"
answer --plan "$work/all" --npu-from 2 --npu-program-mem 1
is_code 0 "no program fits: the host does it"
check "... the same answer" cmp "$work/out" "$work/plain"
check "... one line about all of them" test "$(grep -c 'were not loaded' "$work/err")" -eq 1
answer --plan "$work/all" --npu-from 2 --npu-program-mem 1 --require-npu
is_code 1 "... an error with --require-npu"
answer --plan "$work/prune" --npu-from 2
is_code 1 "a lossy plan"
check "... is refused by name" grep -q "prune: the plan's overflow policy 'prune' changes results" "$work/err"
answer --plan "$work/prune" --npu-from 2 --lossy --stats
is_code 0 "... unless --lossy"
check "... and what it drops is counted" grep -Eq ' [1-9][0-9]* dropped' "$work/err"

# ---- outputs that cannot be ----
for option in --stats-out --trace-out; do
    answer --plan "$work/all" --npu-from 2 $option "$work/none/file"
    is_code 1 "$option in a folder that is not there"
    check "... is refused before the answer" test ! -s "$work/out"
    check "... by name" grep -q "cannot write $work/none/file: No such file or directory" "$work/err"
done
answer --plan "$work/all" --npu-from 2 --stats-out "$work/kept" && cp "$work/kept" "$work/copy"
answer --plan "$work/none" --npu-from 2 --stats-out "$work/kept"
is_code 1 "a run that fails"
check "... leaves the earlier report" cmp "$work/kept" "$work/copy"
check "... and nothing beside it" test -z "$(ls "$work" | grep partial)"

# ---- a device that fails ----
for fault in fail-load=2 fail-launch=2-4 fail-submit=3; do
    answer --plan "$work/all" --npu-from 2 --npu-debug $fault --stats
    is_code 0 "$fault: goes on"
    check "... with the same answer" cmp "$work/out" "$work/plain"
    check "... and says so" grep -q 'warning: .*/all: device tile.*fails on request' "$work/err"
    answer --plan "$work/all" --npu-from 2 --npu-debug $fault --require-npu
    is_code 1 "... refused with --require-npu"
    check "... by name" grep -q '^npumoe: .*/all: .*layer [0-9].*fails on request' "$work/err"
    check "... and nobody says that the host does it" test "$(grep -c 'the host does' "$work/err")" -eq 0
done
answer --plan "$work/all" --npu-from 2 --npu-debug fail-submit=1-100000 --stats
is_code 0 "all submissions fail: goes on"
check "... and nothing counts as the device's" grep -q ' occupied, 0 launches, 0 of dense parts' "$work/err"
check "... no pairs either" grep -q '^  rows    0.0 % of the pairs on the device, 0.0 % padding' "$work/err"
check "... which is said" grep -q '^  the device completed no launch: the host computed all of it alone' "$work/err"
done_testing
