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
done_testing
