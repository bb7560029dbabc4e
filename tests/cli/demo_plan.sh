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

# ---- the table at the end of ./setup demo: words of --stats by their places ----
run run -m "$model" -f docs/demo/prompt.txt -n 0 --plan "$work/plan.json" --npu-from 2 -t 1 --stats --stats-out "$work/stats.json"
is_code 0 "run --stats"
# figure NAME: of the measured ones
figure() {
    tr -d ' \n' <"$work/stats.json" | awk '{ print substr($0, index($0, "\"measured\":")) }' | grep -o "\"$1\":[0-9.]*" | head -n 1 | grep -o '[0-9.]*$'
}
same() {
    check "the demo's table finds $1 ($2, $3)" awk -v a="$2" -v b="$3" -v e="$4" 'BEGIN { n = "^[0-9.]+$"; exit !(a ~ n && b ~ n && a - b <= e && b - a <= e) }'
}
same "tokens" "$(awk '/^prompt eval time/ { print $8 }' "$work/err")" "$(awk '/ tokens by plan in / { print $1 }' "$work/err")" 0
same "the host's CPU time" "$(awk '/^  host / { print $2 }' "$work/err")" \
    "$(sed -n 's/.*"host_cpu_us": *\([0-9.]*\).*/\1/p' "$work/stats.json" | awk '{ print $1 / 1e6 }')" 0.001
same "the device's" "$(awk '/^  device / { print $2 }' "$work/err")" "$(figure device_us | awk '{ print $1 / 1e6 }')" 0.001
same "launches" "$(awk '/^  device / { print $8 }' "$work/err")" "$(figure launches)" 0
same "launches of dense parts" "$(awk '/^  device / { print $10 }' "$work/err")" "$(figure part_launches)" 0
same "pairs on the device" "$(awk '/^  rows / { print $2 }' "$work/err")" \
    "$(awk -v d="$(figure device_rows)" -v p="$(figure pairs)" 'BEGIN { print 100 * d / p }')" 0.1
same "padding" "$(awk '/^  rows / { print $10 }' "$work/err")" \
    "$(awk -v d="$(figure device_rows)" -v c="$(figure computed_rows)" 'BEGIN { print 100 * (c - d) / c }')" 0.1
same "dropped pairs" "$(awk '/^  rows / { print $16 }' "$work/err")" "$(figure dropped)" 0
done_testing
