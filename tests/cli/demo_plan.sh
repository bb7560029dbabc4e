#!/bin/sh
# The way of the README on the model that ships with npumoe: calibrate, plan, explain, run, verify. With a plan it
# computes what it computes without one: KL divergence, likeliest tokens, no pair dropped. Every expert goes to
# the device, because what pays depends on how busy this machine is just now.
. "$(dirname "$0")/common/tap.sh"
leave() { echo "1..0 # SKIP $1"; exit 0; }
[ "${NPUMOE_CONFIG:-release}" = release ] || leave "a real model, so release builds only"
model=$(echo models/npumoe-*.gguf)
[ -f "$model" ] || leave "no model in models/"

run calibrate -m "$model" -f docs/demo/tales.txt --chunks 3 -o "$work/profile.json"
is_code 0 "calibrate"
run plan "$work/profile.json" --chunk 256 -t 1 --in-flight 2 --all-experts --alone -q -o "$work/plan.json"
is_code 0 "plan"
run explain "$work/plan.json"
is_code 0 "explain"
run verify -m "$model" -f docs/demo/prompt.txt --plan "$work/plan.json" --npu-from 2 -t 1 --max-kl 1e-4 --min-agreement 99.5 --json
is_code 0 "verify: KL below 1e-4, the same first choice at 99.5 %"
check "... by plan" grep -q '"tokens": [1-9]' "$work/out"
check "... nothing dropped, nothing failed" test "$(grep -c '"\(dropped\|rerouted\|failures\)": 0,*$' "$work/out")" -eq 3

# ---- the table at the end of ./setup demo: from what runs say, which must stay as it is ----
run run -m "$model" -f docs/demo/prompt.txt -n 0 -t 1
cp "$work/err" "$work/one"
run run -m "$model" -f docs/demo/prompt.txt -n 0 --plan "$work/plan.json" --npu-from 2 -t 1 --stats
is_code 0 "run --stats"
tokens=$(awk '/ tokens by plan in / { print $1 }' "$work/err")
# with_time MS <LOG: another time
with_time() {
    sed "s/^\(prompt eval time = *\)[0-9.]* ms/\1$1 ms/"
}
i=1
for ms in 100 300 200 500 400; do
    with_time $ms.00 <"$work/one" >"$work/alone.$i"
    with_time $((ms / 2)).00 <"$work/one" >"$work/all.$i"
    with_time $((ms / 10 + 5)).00 <"$work/err" | sed "
        s/^\(  host  *\)[0-9.]* s CPU/\10.0$i s CPU/
        s/^\(  device  *\)[0-9.]* s busy/\10.1$i s busy/
        s/ [0-9]* launches, [0-9]* of dense parts/ 1$i launches, 2$i of dense parts/
        s/^\(  rows  *\)[0-9.]* %\(.*\), [0-9.]* % padding,\(.*\), [0-9]* dropped/\13$i %\2, 4$i % padding,\3, 5$i dropped/" >"$work/plan.$i"
    i=$((i + 1))
done
./setup table "$work" 3 >"$work/table" 2>"$work/err"
code=$?
is_code 0 "./setup table"
while read -r row; do
    check "... $row" grep -q "^ *$(echo "$row" | sed 's/  */  */g') *\$" "$work/table"
done <<END
one core with the device all cores, 3
prompt, $tokens tokens 300 ms 35 ms 150 ms
host CPU 0.30 s 0.02 s 0.45 s
device busy 0.12 s
launches of experts 12
of dense parts 22
pairs on the device 32 %
padding 42 %
pairs dropped 0 52 0
Beside the device one core needs 8.57 times less time, and 7 % of the CPU time.
END
./setup table "$work/none" 2>"$work/err"
code=$?
is_code 1 "no demo, no table"
done_testing
