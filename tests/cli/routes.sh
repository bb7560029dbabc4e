#!/bin/sh
# --routes: a recorded routing instead of the routers': what calibration then counts is what the trace says.
. "$(dirname "$0")/common/tap.sh"
json() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); '"$1" <"$2"; }
model=$(tiny olmoe)
perl -e 'srand 5; print join(" ", map { chr(97 + rand 26) x (1 + rand 3) } 1 .. 250), "\n"' >"$work/text"
run calibrate -m "$model" -f "$work/text" -o "$work/own" -t 1 --chunks 1 --trace "$work/trace" --trace-csv "$work/csv"
is_code 0 "a trace to work with"

# ---- the trace of the same text: nothing changes but the weights' last bits ----
run calibrate -m "$model" -f "$work/text" -o "$work/same" -t 1 --chunks 1 --routes "$work/trace" --trace-csv "$work/csv2" --trace "$work/trace2"
is_code 0 "calibrate --routes TRACE"
check "... a note says that it is no answer" grep -q "routing comes from $work/trace" "$work/err"
check "... the same experts" sh -c "cut -d, -f1-7 '$work/csv' >'$work/a'; cut -d, -f1-7 '$work/csv2' >'$work/b'; cmp '$work/a' '$work/b'"
check "... and weights" cmp "$work/trace" "$work/trace2"
run calibrate -m "$model" -f "$work/text" -o "$work/same" -t 1 --chunks 1 --routes "$work/csv" --trace "$work/trace3"
is_code 0 "calibrate --routes CSV"
check "... the same trace again" cmp "$work/trace" "$work/trace3"

logits() { run logits -m "$model" -f "$work/text" -c 4096 -t 1 --routes "$1" -o "$2"; }
logits "$work/trace" "$work/1.npy"
is_code 0 "logits --routes TRACE"
logits "$work/csv" "$work/2.npy"
check "... and CSV: the same bits" cmp "$work/1.npy" "$work/2.npy"
perl -e 'srand 6; print join(" ", map { chr(97 + rand 26) x (1 + rand 3) } 1 .. 2500), "\n"' >"$work/long"
run calibrate -m "$model" -f "$work/long" -o "$work/all" -t 1 --trace "$work/trace.all"
is_code 0 "a trace of several windows"
run calibrate -m "$model" -f "$work/long" -o "$work/all.again" -t 1 --routes "$work/trace.all" -c 16384
check "... is counted whole with -c" cmp "$work/all" "$work/all.again"

# ---- by hand: everything to two experts ----
perl -ne 'if (/^\d/) { my @f = split /,/; my $k = (@f - 5) / 2; print join(",", @f[0 .. 4], 0 .. $k - 1, (1 / $k) x $k), "\n" } else { print }' \
    "$work/csv" >"$work/all-to-few"
run calibrate -m "$model" -f "$work/text" -o "$work/few" -t 1 --routes "$work/all-to-few" --json
is_code 0 "all tokens to the first experts"
check "... carry everything" json 'for my $l (@{$t->{layers}}) { exit 1 if $l->{idle} != $t->{model}{n_expert} - $t->{model}{n_expert_used} } exit 0' "$work/out"
run bench -m "$model" -p 64 -n 0 -r 1 -t 1 --no-probe --routes "$work/all-to-few"
is_code 0 "bench --routes"
run perplexity -m "$model" -f "$work/text" -c 64 -t 1 --chunks 2 --routes "$work/all-to-few"
is_code 0 "perplexity --routes"

# ---- refusals ----
other=$(tiny qwen3moe)
run perplexity -m "$other" -f "$work/text" --routes "$work/trace"
is_code 1 "the trace of another geometry"
check "... says both" grep -q 'the trace is of .* layers, .* with experts, .* for each token; the model has' "$work/err"
run bench -m "$model" --routes "$work/none"
is_code 1 "no trace"
done_testing
