#!/bin/sh
# plan and explain: a plan comes of a profile and a cost table, the same one each time; limits hold; what is
# no plan, or cannot be had, is refused by name. Predicted times are not judged: the machine may be busy.
. "$(dirname "$0")/common/tap.sh"
profile=tests/cli/data/tiny.profile.json # 2 layers of 8 experts, 2 per token, width 64
json() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); '"$1" <"$2"; }

run plan
is_code 1 "plan without a profile: exit 1"
echo 'npumoe: plan: which profile? (npumoe calibrate writes one; npumoe plan -h)' |
    err_is "... says what is missing"

# ---- measured here ----
run plan $profile --chunk 64 -t 1 --isa scalar --npu-isa scalar --save-cost "$work/cost.json" -o "$work/plan.json"
is_code 0 "plan"
check "... nothing on standard output" test ! -s "$work/out"
check "... a summary" grep -q '^policy ours on device tile: chunks of 64 tokens' "$work/err"
check "... with the bound" grep -q '  lower bound .* ms  (gap' "$work/err"
check "the plan is JSON, with two layers" json 'exit !(@{$t->{layers}} == 2 && $t->{schema} eq "npumoe-plan")' "$work/plan.json"
check "... it says how the sides slow each other" json 'my $b = $t->{beside}; exit grep { $_ < 1 || $_ > 2 } @$b{qw(experts dense attention rows device)}' "$work/cost.json"
check "... and so does the summary" grep -q 'beside a busy device the host takes 1\.' "$work/err"
check "... of prompts of several chunks there is nothing to say" sh -c "! grep -q 'is one chunk' '$work/err'"
check "so is the cost table" json 'exit !(@{$t->{host_expert}} > 5 && $t->{device}{name} eq "tile" && @{$t->{device_expert}} > 2)' "$work/cost.json"
run plan $profile --chunk 64 --cost "$work/cost.json" -q -o "$work/again.json"
is_code 0 "plan --cost"
check "... the same plan, byte for byte" cmp "$work/plan.json" "$work/again.json"
check "... -q says nothing" test ! -s "$work/err"

for to in "" "-o -"; do
    run plan $profile --chunk 64 --cost "$work/cost.json" --save-cost - $to
    is_code 1 "plan and cost table on standard output $to"
    check "... of which nothing is written" test ! -s "$work/out"
    echo 'npumoe: --save-cost -: the plan goes to standard output, too; give -o FILE for one of them' | err_is "... says why"
done
run plan $profile --chunk 64 --cost "$work/cost.json" --save-cost - -q -o "$work/again.json"
is_code 0 "the cost table alone on standard output"
check "... is a table" json 'exit !($t->{schema} eq "npumoe-plan-cost")' "$work/out"
for size in expert qkv; do
    for bytes in 9223372036854775807 17179869185 null; do
        sed "s/\"${size}_bytes\": *[0-9]*/\"${size}_bytes\": $bytes/" "$work/cost.json" >"$work/huge.json"
        run plan $profile --chunk 64 --cost "$work/huge.json" -o "$work/huge.plan.json"
        is_code 1 "${size}_bytes $bytes"
        check "... is refused by key" grep -q "huge.json: cost table: device.${size}_bytes: found $bytes, expected" "$work/err"
        check "... and no plan is made" test ! -e "$work/huge.plan.json"
    done
done
sed 's/"crossover": *[0-9a-z]*/"crossover": 1/' "$work/plan.json" >"$work/any.json"
run explain "$work/any.json"
is_code 0 "a plan for prompts of any length"
check "... leaves none to the host alone" test "$(grep -c "the host's alone\|the host alone takes no longer" "$work/out")" -eq 0
sed 's/"crossover": *[0-9a-z]*/"crossover": 2/' "$work/plan.json" >"$work/any.json"
run explain "$work/any.json"
check "... unlike that for 2 and more" grep -q "prompts of fewer than 2 tokens are the host's alone" "$work/out"
run plan $profile --chunk 64 -t 1 --isa scalar --npu-isa scalar --save-cost "$work/none/cost.json" -o -
is_code 1 "a cost table in a folder that is not there"
check "... is refused before anything is measured" grep -q "cannot write $work/none/cost.json" "$work/err"

# ---- limits and policies ----
for policy in ours paper ladder naive cpu; do
    run plan $profile --chunk 64 --cost "$work/cost.json" --policy $policy --slots 3 --npu-mem 200K -o -
    is_code 0 "policy $policy"
    check "... within slots and bytes" json 'exit !($t->{policy} eq "'$policy'" && $t->{programs} <= 3 && $t->{bytes} <= 204800)' "$work/out"
    check "... above its bound" json 'exit !($t->{predicted}{us} >= $t->{bound_us} * 0.999)' "$work/out"
done
run plan $profile --chunk 64 --cost "$work/cost.json" --policy naive --prompt-tokens 64 -o "$work/one.json"
check "a prompt of one chunk is told to be two" grep -q 'a prompt of 64 tokens is one chunk of 64, .*try --chunk 32' "$work/err"
run plan $profile --chunk 64 --cost "$work/cost.json" --npu-launch-us 150 -o "$work/late.json"
is_code 0 "added latency"
check "... is marked in the summary" grep -q '150 us added to each launch' "$work/err"
run explain "$work/late.json"
check "explain says how the sides slow each other" grep -q 'beside a busy device [12]\.[0-9]* times as long for experts' "$work/out"
check "... and by explain" grep -q '150 us of that were ADDED' "$work/out"

run plan $profile --chunk 64 -t 1 --isa scalar --npu-isa scalar --npu-launch-us 150 --save-cost "$work/slow.json" -q -o "$work/late.json"
is_code 0 "a cost table with added latency"
run plan $profile --chunk 64 --cost "$work/slow.json" -q -o - --policy naive
with=$(json 'print $t->{launch_us}' "$work/slow.json")
check "... which is taken out where nobody asks for it" json 'exit !($t->{cost}{added_launch_us} == 0 && abs($t->{cost}{launch_us} + 150 - '"$with"') < 0.01)' "$work/out"

# ---- a limit of host time ----
# a device that is ten times as quick: it could do nearly all
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); for my $k (grep /^device_/, keys %$t) { $_->[1] *= 0.1 for @{$t->{$k}} } print encode_json($t)' <"$work/cost.json" >"$work/quick.json"
for limit in 60 35; do
    run plan $profile --chunk 64 --cost "$work/quick.json" --host-cpu $limit -o "$work/limit$limit.json"
    is_code 0 "plan --host-cpu $limit"
    check "... keeps to it" json 'exit !($t->{host_limit} == '$limit' / 100 && $t->{predicted}{host_us} <= $t->{host_limit} * $t->{cpu_only}{host_us} * 1.000001)' "$work/limit$limit.json"
    check "... the summary has both" grep -q "the host works for [0-9.]* % of the time that it takes alone (limit: $limit %)" "$work/err"
done
# and one that can do nothing
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); for my $k (grep /^device_/, keys %$t) { $_->[1] *= 1000 for @{$t->{$k}} } print encode_json($t)' <"$work/cost.json" >"$work/idle.json"
run plan $profile --chunk 64 --cost "$work/idle.json" --host-cpu 50 -o "$work/limit50.json"
is_code 0 "a limit that nothing keeps"
check "... is not kept, and nothing is slower for it" json 'exit !($t->{predicted}{us} <= $t->{cpu_only}{us} * 1.000001 && $t->{predicted}{host_us} > 0.5 * $t->{cpu_only}{host_us})' "$work/limit50.json"
check "... which is said" grep -q '; no plan with 50 % was found' "$work/err"
run explain "$work/limit35.json" --json
check "explain knows the limit" json 'exit !($t->{host_limit} == 0.35 && $t->{host_share} <= 0.35)' "$work/out"
run explain "$work/limit35.json"
check "... and says it" grep -q "the host's CPU at most 35 % of its time alone" "$work/out"
run plan $profile --chunk 64 --cost "$work/quick.json" --host-cpu 100 -o "$work/any.json"
check "100 % is no limit" json 'exit exists $t->{host_limit}' "$work/any.json"
run plan $profile --chunk 64 --cost "$work/quick.json" --host-cpu 30 --objective cpu
is_code 1 "a limit with another objective"
check "... is refused" grep -q 'a limit of host time is for objective latency' "$work/err"
for limit in 0 101 third; do
    run plan $profile --chunk 64 --cost "$work/quick.json" --host-cpu $limit
    is_code 1 "--host-cpu $limit"
done

# ---- the form of weights ----
# scalar kernels keep panels of fp32: 3 matrices of 64 x 64 or more, four bytes a weight
run plan $profile --chunk 64 -t 1 --isa scalar --npu-isa scalar --npu-weights packed --save-cost "$work/packed.json" -o "$work/packed.plan.json"
is_code 0 "plan --npu-weights packed"
check "... the table says so" json 'exit !($t->{device}{weights} eq "packed")' "$work/packed.json"
size() { json 'print $t->{device}{expert_bytes}' "$1"; }
check "... and has other bytes" test "$(size "$work/packed.json")" -gt "$(size "$work/cost.json")"
run explain "$work/packed.plan.json"
check "... explain too" grep -q 'weights packed' "$work/out"
run explain "$work/plan.json"
check "... and of the other" grep -q 'weights as in the file' "$work/out"
run plan $profile --cost "$work/cost.json" --chunk 64 --npu-weights packed
is_code 1 "a cost table for the other form"
check "... names both" grep -q "kept as 'file', expected 'packed'" "$work/err"
run plan $profile --chunk 64 --npu-weights folded
is_code 1 "an unknown form"
check "... says which there are" grep -q 'expected file or packed' "$work/err"

# ---- explain ----
run explain "$work/plan.json" --all
is_code 0 "explain"
check "... the whole" grep -q '^predicted for a chunk of 64 tokens' "$work/out"
check "... why totals are not sums" grep -q '^of the last layer a prompt wants one row' "$work/out"
check "... other policies" grep -q 'policy ladder, overflow spill' "$work/out"
check "... a line for each layer" test "$(grep -c '^ *[01]  *[0-9]* of 8 ' "$work/out")" -eq 2
check "... what was not taken" grep -q 'looked at and not taken' "$work/out"
check "... each shape once" sh -c "sed -n '/^layer 0\$/,/^layer 1\$/s/^ *[0-9.]* ms  \(.*\) (.*/\1/p' '$work/out' | sort | uniq -d | cmp - /dev/null"
run explain "$work/plan.json" -l 0,99
is_code 1 "a layer that is not there"
check "... says which" grep -q 'plan.json has no layer 99 with experts' "$work/err"
run explain "$work/plan.json" --json
is_code 0 "explain --json"
check "... every expert is somewhere" json 'for my $l (@{$t->{layers}}) { my $n = @{$l->{host_experts}}; $n += @{$_->{experts}} for @{$l->{groups}}; exit 1 if $n != 8 } exit 0' "$work/out"

# Where experts never pay on the device and dense parts always do, and where nothing does: what limits a layer.
costs() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); for my $k (grep /^device_/, keys %$t) { my $f = $k eq "device_expert" ? 1000 : '"$1"'; $_->[1] *= $f for @{$t->{$k}} } print encode_json($t)' <"$work/cost.json"; }
costs 0.01 >"$work/parts.cost.json"
costs 1000 >"$work/slow.cost.json"
for at in parts slow; do
    run plan $profile --chunk 64 --prompt-tokens 512 --cost "$work/$at.cost.json" -q -o "$work/$at.plan.json"
    is_code 0 "a plan of $at"
    run explain "$work/$at.plan.json" --json
    is_code 0 "... explained"
    cp "$work/out" "$work/$at.explain"
done
nothing='"the host: nothing on the device pays here"'
check "a device that takes parts alone limits a layer as any" json 'my @l = grep { !@{$_->{groups}} && grep { $_ eq "device" } values %{$_->{parts}} } @{$t->{layers}}; exit !(@l && !grep { $_->{limit} eq '"$nothing"' } @l)' "$work/parts.explain"
check "where nothing pays there, that is said" json 'my @l = grep { $_->{limit} eq '"$nothing"' } @{$t->{layers}}; exit !(@l == 2)' "$work/slow.explain"
for policy in paper ladder; do
    run plan $profile --chunk 64 --cost "$work/parts.cost.json" --policy $policy -q -o "$work/fixed.plan.json"
    is_code 0 "policy $policy without budgets"
    run explain "$work/fixed.plan.json" --json
    check "... is limited by none" json 'exit grep { $_->{limit} =~ /budget/ } @{$t->{layers}}' "$work/out"
done
run plan $profile --chunk 64 --cost "$work/parts.cost.json" --slots 1 -q -o "$work/tight.plan.json"
is_code 0 "a plan with one slot"
run explain "$work/tight.plan.json" --json
check "... says what it kept off" json 'my @why = map { $_->{why} } map { @{$_->{rejected}} } @{$t->{layers}}; exit !grep { / but too large for the budget$/ } @why' "$work/out"
run plan $profile --chunk 64 --prompt-tokens 1 --cost "$work/quick.json" -q -o "$work/one.plan.json"
is_code 0 "a plan for prompts of one token"
check "... has nothing on the device" json 'exit !($t->{programs} == 0 && !defined $t->{crossover} && $t->{predicted}{us} == $t->{cpu_only}{us})' "$work/one.plan.json"
sed '/"predicted": *{/,/}/s/"us": *[0-9.e+]*/"us": 0/' "$work/plan.json" >"$work/zero.json"
run explain "$work/zero.json"
is_code 1 "a plan that takes no time"
check "... is refused" grep -q 'plan: predicted: found 0 us, expected more than 0' "$work/err"

# Parts that host and device share by rows.
share() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); my $d = $t->{cost}{device}; my @rows = ('"$1"'); for my $l (@{$t->{layers}}) { $l->{parts} = ["qkv", "o"]; $l->{rows} = shift @rows; $t->{programs} += 2; $t->{bytes} += $d->{qkv_bytes} + $d->{o_bytes} } print encode_json($t)' <"$work/slow.plan.json"; }
share '{ qkv => 32, o => 16 }, { qkv => 48 }' >"$work/shared.plan.json"
run explain "$work/shared.plan.json" -l 0,1
is_code 0 "a plan with parts that are shared by rows"
check "... how many, in all layers" grep -q 'qkv 32 to 48 rows in 2, o 16 to 64 rows in 2 of 2 layers on the device' "$work/out"
check "... and in one" grep -q 'qkv 32 rows on the device, the others on the host; .*o 16 rows on the device' "$work/out"
check "... o of the other is not shared" grep -q 'qkv 48 rows on the device, the others on the host; .*o on the device;' "$work/out"
run explain "$work/shared.plan.json" --json
check "... as JSON" json 'my @l = @{$t->{layers}}; exit !($l[0]{rows}{qkv} == 32 && $l[0]{parts}{o} eq "device" && !exists $l[1]{rows}{o})' "$work/out"
run explain "$work/parts.plan.json" --json
check "... where none is, nothing is said" json 'exit grep { exists $_->{rows} } @{$t->{layers}}' "$work/out"
share '{ qkv => 32 }, { o => 64 }' >"$work/shared.plan.json"
run explain "$work/shared.plan.json"
is_code 1 "as many rows as a chunk has"
check "... are refused" grep -q 'layer 1: rows of o: found 64, expected less than 64' "$work/err"

# ---- refusals ----
run plan $profile --policy best --cost "$work/cost.json" --chunk 64
is_code 1 "an unknown policy"
echo "npumoe: policy: found 'best', expected one of ours, paper, ladder, naive, cpu" | err_is "... lists what there is"
run plan $profile --objective energy --cost "$work/cost.json" --chunk 64
is_code 1 "energy without watts"
check "... says what is needed" grep -q 'give host_watts and device_watts in the cost file' "$work/err"
run plan $profile --cost "$work/cost.json" --chunk 128
is_code 1 "a cost table for other chunks"
check "... names both" grep -q 'chunks of tokens: 64, expected 128' "$work/err"
run plan $profile --cost "$work/cost.json" --chunk 64 --types Q4_0
is_code 1 "a cost table for other weights"
check "... names both" grep -q 'gate in Q8_0, expected Q4_0' "$work/err"
run plan $profile --device coreml
is_code 1 "an unknown device"
# tables from before it was measured
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); delete $t->{beside}; print encode_json($t)' <"$work/cost.json" >"$work/alone.json"
run plan $profile --cost "$work/alone.json" --chunk 64 -o "$work/alone.plan.json"
is_code 0 "a table that knows each side alone"
check "... says nothing of both" sh -c '! grep -q beside "$0"' "$work/err"
run explain "$work/alone.plan.json"
check "... nor does explain" sh -c '! grep -q beside "$0"' "$work/out"
# ---- what the host computes with ----
run plan $profile --cost "$work/cost.json" --chunk 64 --precision fast
is_code 1 "a cost table for another precision"
check "... names both" grep -q "with precision 'auto', expected 'fast'" "$work/err"
run explain "$work/plan.json"
check "the usual precision needs no word" grep -q '^host  *scalar, 1 thread$' "$work/out"
perl -pe 's/("architecture":\s*)"[^"]*"/$1"phimoe"/' $profile >"$work/phi.profile.json"
run plan "$work/phi.profile.json" --chunk 64 -t 1 --isa scalar --npu-isa scalar --save-cost "$work/phi.json" -q -o "$work/phi.plan.json"
is_code 0 "a family whose router needs more"
check "... is measured with that" json 'exit !($t->{precision} eq "full")' "$work/phi.json"
run explain "$work/phi.plan.json"
check "... which is said" grep -q '^host  *scalar, 1 thread, precision full$' "$work/out"
sed 's/"precision": "full"/"precision": "auto"/' "$work/phi.json" >"$work/auto.json"
run plan "$work/phi.profile.json" --chunk 64 --cost "$work/auto.json"
is_code 1 "a table without that"
check "... names both" grep -q "with precision 'auto', expected 'full'" "$work/err"
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); delete $t->{precision}; print encode_json($t)' <"$work/phi.json" >"$work/old.json"
run plan "$work/phi.profile.json" --chunk 64 --cost "$work/old.json" -q -o "$work/old.plan.json"
is_code 0 "a table that does not say it"
run plan "$work/phi.profile.json" --chunk 64 --cost "$work/old.json" --precision full
is_code 1 "... when it was asked for"
check "... says so" grep -q "with precision 'unknown', expected 'full'" "$work/err"
run plan "$work/plan.json"
is_code 1 "a plan is no profile"
check "... and the message says so" grep -q 'plan.json: profile: schema: found "npumoe-plan"' "$work/err"
run plan $profile --chunk 64 --cost $profile
is_code 1 "a profile is no cost table"
check "... and the message has the file" grep -q "$profile: cost table: schema: found" "$work/err"

# ---- one file for one machine ----
cat >"$work/machine.json" <<'X'
{"schema": "npumoe-cost-table", "schema_version": 1, "isa": "scalar", "tiers": ["scalar"], "machine": {"cpu": {"model": "a round one"}},
 "multiply": [{"type": "f32", "unit": "scalar", "isa": "scalar", "from": "registers", "threads": 1, "gops_per_s_max": 50}],
 "read": [{"from": "file", "bytes_per_thread": 536870912, "threads": 1, "gb_per_s_max": 16}]}
X
run plan $profile --chunk 64 --cost "$work/machine.json"
is_code 1 "what probe wrote has no costs of a model's work"
check "... and the message says who adds them" grep -q "machine.json: cost table: it says what the machine can do, and has no costs of a model's work; npumoe plan PROFILE --save-cost FILE" "$work/err"
run plan $profile --chunk 64 --cost "$work/cost.json" --save-cost "$work/machine.json" -q -o "$work/again.json"
is_code 0 "plan --save-cost to what probe wrote"
check "... it is still there" json 'exit !($t->{schema} eq "npumoe-cost-table" && $t->{multiply}[0]{gops_per_s_max} == 50 && @{$t->{read}} == 1)' "$work/machine.json"
check "... with these costs" json 'exit !(@{$t->{work}} == 1 && $t->{work}[0]{schema} eq "npumoe-plan-cost" && $t->{work}[0]{chunk} == 64)' "$work/machine.json"
run plan $profile --chunk 64 --cost "$work/machine.json" -q -o "$work/again.json"
is_code 0 "which serve plan"
check "... the same plan, byte for byte" cmp "$work/plan.json" "$work/again.json"
run plan $profile --chunk 64 --cost "$work/machine.json" --save-cost "$work/machine.json" -q -o "$work/again.json"
check "costs of the same work by the same settings take the place of the older ones" json 'exit !(@{$t->{work}} == 1)' "$work/machine.json"
run plan $profile --chunk 64 --cost "$work/packed.json" --save-cost "$work/machine.json" -q -o "$work/again.json"
check "... of others stand beside them" json 'exit !(@{$t->{work}} == 2)' "$work/machine.json"
run plan $profile --chunk 64 --cost "$work/machine.json" --npu-weights packed -q -o "$work/again.json"
check "... and are found" cmp "$work/packed.plan.json" "$work/again.json"
run plan $profile --chunk 64 --cost "$work/machine.json" --npu-weights file -q -o "$work/again.json"
check "... as are the first" cmp "$work/plan.json" "$work/again.json"
run plan $profile --chunk 32 --cost "$work/machine.json"
is_code 1 "costs of other chunks"
check "... why the newest does not serve" grep -q 'machine.json: cost table: none of its 2 under "work" serves here; the newest: it was measured with chunks of tokens: 64, expected 32' "$work/err"
model=$(tiny olmoe)
run bench -m "$model" --isa scalar -t 1 --cost "$work/machine.json" -p 16 -n 0 -r 1 -o json
is_code 0 "the same file serves bench"
check "... with what the machine can do" json 'exit !($t->[0]{limit_gops_per_s} == 50)' "$work/out"
cp "$work/machine.json" "$work/kept.json"
sed 's/"chunk": *64/"chunk": 0/' "$work/machine.json" >"$work/broken.json"
run plan $profile --chunk 64 --cost "$work/broken.json"
is_code 1 "work that cannot be read"
check "... the key" grep -q 'broken.json: cost table: chunk: found 0, expected' "$work/err"
sed 's/_version": 1, "isa"/_version": 2, "isa"/' "$work/machine.json" | sed '0,/"schema_version": *1/s//"schema_version": 2/' >"$work/newer.json"
cp "$work/newer.json" "$work/kept.json"
run plan $profile --chunk 64 --cost "$work/cost.json" --save-cost "$work/newer.json" -o "$work/none.json"
is_code 1 "nothing is added to a newer table"
check "... which stays" cmp "$work/newer.json" "$work/kept.json"
check "... and no plan is written" test ! -e "$work/none.json"
run plan $profile --chunk 1 --cost "$work/cost.json"
is_code 1 "chunks of one token"
check "... never go by a plan" grep -q 'chunk: found 1, expected 2 to 16384; a token by itself' "$work/err"
run explain $profile
is_code 1 "a profile is no plan"
check "... and the message says so" grep -q 'found "npumoe-profile", expected "npumoe-plan"' "$work/err"
head -c 700 "$work/plan.json" >"$work/cut.json"
run explain "$work/cut.json"
is_code 1 "half a plan"
check "... and where it ends" grep -q 'cut.json: plan: not JSON: line' "$work/err"
run explain "$work/none.json"
is_code 1 "no file"
cp $profile "$work/own.json"
run plan "$work/own.json" --cost "$work/cost.json" --chunk 64 -o "$work/own.json"
is_code 1 "a plan in its profile's place"
check "... and the profile is whole" cmp $profile "$work/own.json"
run plan $profile --cost "$work/cost.json" --chunk 64 -o "$work/cost.json"
is_code 1 "a plan in the cost table's place"
run plan $profile --chunk 64 -o "$work/two" --save-cost "$work/two"
is_code 1 "two outputs of one name"
done_testing
