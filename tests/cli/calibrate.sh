#!/bin/sh
# calibrate: the same profile whatever the pieces, joined or in one pass, stopped or not; traces; what is
# refused and why.
. "$(dirname "$0")/common/tap.sh"
olmoe=$(tiny olmoe)
llama=$(tiny llama)

i=0 # some 10,000 tokens, no two lines alike
while [ $i -lt 240 ]; do
    echo "once upon a time $i the sea rose $((i * i % 977)) times and $((i * 7919 % 1009)) ships sank"
    i=$((i + 1))
done >"$work/one.txt"
sed 's/sea/old king/; s/ships sank/crowns were lost/' "$work/one.txt" >"$work/two.txt"
: >"$work/empty.txt"
both="-f $work/one.txt $work/two.txt"

# ---- every family that has experts ----
for family in olmoe phimoe granitemoe llama qwen2moe qwen3moe; do
    run calibrate -m "$(tiny $family)" -f "$work/one.txt" --chunks 2 -c 512 -o "$work/$family.json"
    is_code 0 "calibrate on $family"
    check "... the profile names it" grep -q "\"architecture\":\"$family\"" "$work/$family.json"
    check "... it has all tokens" grep -q '"main":{"tokens":4096,"chunks":\[32,16,8,4,2\]}' "$work/$family.json"
done
run calibrate -m tests/fuzz/corpus/model/dense.gguf -f "$work/one.txt" -o "$work/dense.json"
is_code 1 "a model without experts is refused"
check "... with the reason" grep -q 'the model has no experts' "$work/err"
check "... and leaves nothing" test ! -e "$work/dense.json"

run calibrate -m "$olmoe" -f "$work/one.txt" --html "$work/none/page.html" -o "$work/unmade.json"
is_code 1 "a page in a folder that is not there"
check "... is refused before the text is read" test ! -e "$work/unmade.json"

# ---- one pass, and the same in other ways ----
run calibrate -m "$olmoe" $both -o "$work/all.json" --trace "$work/all.trace"
is_code 0 "two texts"
check "... nothing is left beside them" sh -c "! ls '$work' | grep -q partial"
run calibrate -m "$olmoe" $both -o "$work/other.json" -ub 384 -t 1
is_code 0 "in chunks of 384 on one thread"
check "... gives a profile of the same size" \
    test "$(grep -o '"tokens":[0-9]*' "$work/other.json" | tr '\n' ' ')" = \
    "$(grep -o '"tokens":[0-9]*' "$work/all.json" | tr '\n' ' ')"
run calibrate -m "$olmoe" -f "$work/one.txt" -o "$work/fp1.json" --precision fp32 --chunks 3
run calibrate -m "$olmoe" -f "$work/one.txt" -o "$work/fp2.json" --precision fp32 --chunks 3 -ub 100
check "without rounding, chunks of 100 give the same profile" cmp "$work/fp1.json" "$work/fp2.json"
run calibrate -m "$olmoe" -f "$work/one.txt" -o "$work/1.json"
run calibrate -m "$olmoe" -f "$work/two.txt" -o "$work/2.json"
run calibrate --in-file "$work/1.json" --in-file "$work/2.json" -o "$work/joined.json"
is_code 0 "two profiles are joined"
check "... as if they were read in one run" cmp "$work/joined.json" "$work/all.json"
run calibrate -m "$olmoe" -f "$work/two.txt" --in-file "$work/1.json" -o "$work/added.json"
check "a text is added to a profile" cmp "$work/added.json" "$work/all.json"
"$NPUMOE" calibrate -m "$olmoe" -f - -o "$work/stdin.json" <"$work/one.txt" >/dev/null 2>&1
check "standard input is a text" grep -q '"name":"stdin"' "$work/stdin.json"
"$NPUMOE" quantize "$olmoe" "$work/q.gguf" Q4_0 --allow-requantize >/dev/null 2>&1
run calibrate -m "$work/q.gguf" -f "$work/two.txt" --in-file "$work/1.json" -o "$work/q.json" --chunks 1
is_code 0 "a quantisation of the model shares its profiles"

# ---- stopped and resumed ----
i=0
while [ $i -lt 3 ]; do
    cat "$work/one.txt"
    i=$((i + 1))
done >"$work/long.txt"
for ctx in 2048 4096; do
    # every second of short sequences, all of long ones
    every=$((4096 / ctx))
    set -- calibrate -m "$olmoe" -f "$work/one.txt" "$work/long.txt" "$work/long.txt" -c $ctx --every $every -t 1
    run "$@" -o "$work/whole.json" --trace "$work/whole.trace"
    is_code 0 "a long run with sequences of $ctx"
    "$NPUMOE" "$@" -o "$work/part.json" --trace "$work/part.trace" </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    n=0
    while [ ! -s "$work/part.trace.partial" ] && kill -0 $pid 2>/dev/null && [ $n -lt 400 ]; do
        sleep 0.02
        n=$((n + 1))
    done
    sleep 0.2
    kill -TERM $pid
    wait $pid
    code=$?
    if [ $code -eq 0 ]; then
        skip "the run was over before the signal"
        rm -f "$work/part.json" "$work/part.trace"
        continue
    fi
    is_code 143 "... is stopped"
    check "... keeps what it has" test -s "$work/part.json.partial"
    check "... says so" grep -q 'the same command goes on from there' "$work/err"
    check "... and has no profile yet" test ! -e "$work/part.json"
    run calibrate --show-statistics "$work/part.json.partial"
    is_code 0 "... the part can be looked at"
    run "$@" -o "$work/part.json"
    is_code 1 "... another command is refused"
    check "... with the reason" grep -q 'the stopped run wrote a trace' "$work/err"
    run "$@" --every 5 -o "$work/part.json" --trace "$work/part.trace"
    is_code 1 "... another sample"
    check "... with the reason" grep -q "counted every $every. window or sequence, this one every 5" "$work/err"
    cp "$work/part.json.partial" "$work/full.json.partial"
    cp "$work/part.trace.partial" "$work/full.trace.partial"
    counted=$(sed -n 's/.*"all_windows":\([0-9]*\).*/\1/p' "$work/part.json.partial")
    if [ "$counted" -gt 1 ]; then
        run "$@" --chunks $((counted - 1)) -o "$work/full.json" --trace "$work/full.trace"
        is_code 1 "... fewer windows than it has"
        check "... with both numbers" grep -q "has counted $counted windows already, more than the $((counted - 1))" "$work/err"
    else
        skip "the run was stopped after its first window"
    fi
    run "$@" --chunks "$counted" -o "$work/full.json" --trace "$work/full.trace"
    is_code 0 "... with no more to read"
    run calibrate --trace "$work/full.trace" --trace-csv "$work/full.csv"
    run calibrate --show-statistics "$work/full.json"
    check "... profile and trace are of the same tokens" \
        test "$(awk -F, '$5 == 0' "$work/full.csv" | wc -l)" -eq "$(sed -n 's/^tokens  *\([0-9]*\) in.*/\1/p' "$work/out")"
    check "... and nothing is left" test ! -e "$work/full.json.partial" -a ! -e "$work/full.trace.partial"
    run calibrate -m "$olmoe" -f "$work/two.txt" "$work/long.txt" -c $ctx --every $every -o "$work/part.json" --trace "$work/part.trace"
    is_code 1 "... other texts, too"
    check "... by name" grep -q "'two.txt'.*'one.txt'" "$work/err"
    run "$@" -o "$work/part.json" --trace "$work/part.trace"
    is_code 0 "... the same goes on"
    check "... from there" grep -q 'going on after [0-9]* tokens' "$work/err"
    check "... to the same profile" cmp "$work/part.json" "$work/whole.json"
    check "... and the same trace" cmp "$work/part.trace" "$work/whole.trace"
    check "... leaving nothing" sh -c "! ls '$work' | grep -q partial"
    rm -f "$work/part.json" "$work/part.trace"
done

# Stopped while its second text, a pipe, has nothing to say: the first is complete.
mkdir "$work/as"
stopped() { # NAME: leaves NAME.json.partial
    rm -f "$work/as/second.txt"
    mkfifo "$work/as/second.txt"
    "$NPUMOE" calibrate -m "$olmoe" -f "$work/one.txt" "$work/as/second.txt" -o "$work/$1.json" </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    timeout 60 sh -c 'exec 3>"$0"; sleep 0.3; kill -TERM '$pid'; sleep 1' "$work/as/second.txt"
    wait $pid
    code=$?
    rm "$work/as/second.txt"
    is_code 143 "a run is stopped in its second text"
    check "... with a hash of the first" grep -q '"resume":{"complete":1,.*"texts":\["[0-9a-f]*"\]}' "$work/$1.json.partial"
}
piped() { # NAME: both texts, the second from a pipe again
    rm -f "$work/as/second.txt"
    mkfifo "$work/as/second.txt"
    timeout 60 sh -c 'cat "$0" >"$1"' "$work/two.txt" "$work/as/second.txt" &
    run calibrate -m "$olmoe" -f "$work/one.txt" "$work/as/second.txt" -o "$work/$1.json"
    kill $! 2>/dev/null
    wait $!
}
refused() { # TEXTS...
    cp "$work/twice.json.partial" "$work/copy"
    run calibrate -m "$olmoe" -f "$@" -o "$work/twice.json"
    is_code 1 "... is refused"
    check "... and leaves what there is" test -s "$work/twice.json.partial" -a ! -e "$work/twice.json"
    cp "$work/copy" "$work/twice.json.partial"
}
stopped twice
cp "$work/two.txt" "$work/as/second.txt"
refused "$work/one.txt"
check "... as there were two texts" grep -q 'the stopped run had begun 2 texts, and only 1 of them were read again' "$work/err"
sed 's/the sea/the ski/' "$work/one.txt" >"$work/as/one.txt"
refused "$work/as/one.txt" "$work/as/second.txt"
check "... as the first is another of that name and length" grep -q "'one.txt' is not the text that the stopped run read: other bytes" "$work/err"
refused "$work/as/one.txt" "$work/as/second.txt" --chunks "$(sed -n 's/.*"all_windows":\([0-9]*\).*/\1/p' "$work/twice.json.partial")"
check "... also where no more is wanted" grep -q "'one.txt' is not the text" "$work/err"
sed 's/"texts":\["[0-9a-f]/"texts":["x/' "$work/twice.json.partial" >"$work/hash.json.partial"
run calibrate -m "$olmoe" -f "$work/one.txt" "$work/as/second.txt" -o "$work/hash.json"
is_code 1 "a hash that is none"
check "... by key" grep -q 'resume.texts: found .*16 hexadecimal digits' "$work/err"
sed 's/,"texts":\["[0-9a-f]*"\]}/}/' "$work/twice.json.partial" >"$work/old.json.partial"
piped once
for name in twice old; do
    piped $name
    is_code 0 "the same texts, what was left being $name"
    check "... give the same profile" cmp "$work/once.json" "$work/$name.json"
done

# ---- a sample ----
# windows_of CSV: the first token of each block of 2048
windows_of() {
    awk -F, '$5 == 0 && $2 % 2048 == 0 { printf "%s:%d ", $1, $2 / 2048 }' "$1"
}
for ctx in 2048 4096; do
    run calibrate -m "$olmoe" -f "$work/one.txt" "$work/long.txt" -c $ctx --trace "$work/all.trace2" --trace-csv "$work/all.csv2" -o "$work/all2.json"
    run calibrate -m "$olmoe" -f "$work/one.txt" "$work/long.txt" -c $ctx --every 3 --trace "$work/every.trace" --trace-csv "$work/every.csv" -o "$work/every.json"
    is_code 0 "every third window, sequences of $ctx"
    expected=$(windows_of "$work/all.csv2" | tr ' ' '\n' | awk -F: -v n=$((ctx / 2048)) 'NF > 1 && int($2 / n) % 3 == 0 { printf "%s ", $0 }')
    check "... is the first of three" test "$(windows_of "$work/every.csv")" = "$expected"
    # a sequence's routing does not depend on those before it
    awk -F, -v n=$ctx '$1 ~ /^#/ || $1 == "text" || int($2 / n) % 3 == 0' "$work/all.csv2" | grep -v '^#' | cut -d, -f 1-3,5- >"$work/picked"
    grep -v '^#' "$work/every.csv" | cut -d, -f 1-3,5- >"$work/sampled"
    check "... as in a run of all" cmp "$work/picked" "$work/sampled"
    check "... of which some are held out" grep -q '"held_out":{"tokens":[1-9]' "$work/every.json"
done
run calibrate -m "$olmoe" -f "$work/one.txt" --every 1 -o "$work/each.json"
check "--every 1 is all" cmp "$work/each.json" "$work/1.json"
run calibrate -m "$olmoe" -f "$work/long.txt" --every 2 --chunks 2 -o "$work/two.json"
check "--chunks counts those of the sample" grep -q '"main":{"tokens":4096,' "$work/two.json"
# there may be no end of what is passed over
mkfifo "$work/endless"
for seconds in 0.7 4 15; do # the first window takes a while under sanitizers
    (while cat "$work/one.txt"; do :; done >"$work/endless" 2>/dev/null) &
    "$NPUMOE" calibrate -m "$olmoe" -f - --every 1000000 -o "$work/endless.json" --restart <"$work/endless" >"$work/out" 2>"$work/err" &
    pid=$!
    sleep $seconds
    kill -TERM $pid
    wait $pid
    code=$?
    ! grep -q 'are kept' "$work/err" || break
done
is_code 143 "a text without end is stopped"
check "... keeping the first window" grep -q '2048 tokens are kept' "$work/err"
run calibrate -m "$olmoe" -f "$work/one.txt" --every 0 -o "$work/y.json"
is_code 1 "--every 0 is refused"

: >"$work/x.json.partial"
run calibrate -m "$olmoe" -f "$work/one.txt" --chunks 1 -o "$work/x.json"
is_code 1 "a broken rest is refused"
check "... naming --restart" grep -q -e '--restart begins anew' "$work/err"
run calibrate -m "$olmoe" -f "$work/one.txt" --chunks 1 -o "$work/x.json" --restart
is_code 0 "... which helps"

# ---- reports ----
run calibrate --show-statistics "$work/all.json" --html "$work/all.html"
is_code 0 "--show-statistics of a profile"
for word in '^layer  *gini' '^  all ' '^one.txt ' '^uniform, 2 x mean' '^experts %' '^Popularity ' '^Tiers '; do
    check "... has $word" grep -q "$word" "$work/out"
done
check "the page is one file" sh -c "! grep -qE 'src=|<link|https?:' '$work/all.html'"
check "... with figures" test "$(grep -c '<svg' "$work/all.html")" -eq 3
run calibrate --show-statistics "$work/all.json" --json --chunk 300
is_code 0 "--json, chunks of 300"
check "... is JSON" sh -c "perl -MJSON::PP -e 'local \$/; decode_json(<STDIN>)' <'$work/out'"
check "... of these chunks" grep -q '"chunk": 300,' "$work/out"

# ---- traces ----
run calibrate --trace "$work/all.trace" --trace-csv "$work/all.csv"
is_code 0 "a trace as CSV"
run calibrate --show-statistics "$work/all.json"
layers=$(sed -n 's/^experts  *\([0-9]*\) layers.*/\1/p' "$work/out")
tokens=$(sed -n 's/^tokens  *\([0-9]*\) in.*/\1/p' "$work/out")
check "... a line for each token and layer" \
    test "$(grep -vc -e '^#' -e '^text,' "$work/all.csv")" -eq $((layers * tokens))
# popularity of expert 0 in layer 0, counted from the CSV and read from the profile
k=$(sed -n 's/.* of [0-9]*, \([0-9]*\) per token$/\1/p' "$work/out" | head -n 1)
from_csv=$(awk -F, -v k="$k" '$4 == "main" && $5 == 0 { for (i = 6; i < 6 + k; i++) if ($i == 0) n++ } END { print n + 0 }' "$work/all.csv")
in_profile=$(sed -n '/^{"layer":0/,/^"main"/s/^"main":{"pairs":\[\([0-9]*\),.*/\1/p' "$work/all.json")
check "... with the profile's popularity ($from_csv)" test "$from_csv" = "$in_profile"
head -c 2000 "$work/all.trace" >"$work/cut.trace"
run calibrate --trace "$work/cut.trace" --trace-csv "$work/cut.csv"
is_code 1 "half a trace is refused"
check "... with the reason" grep -q 'cut.trace: at byte 2000: the file ends within a block' "$work/err"
check "... and no CSV" test ! -e "$work/cut.csv"

# ---- refusals ----
cp "$work/one.txt" "$work/copy.txt"
run calibrate -m "$olmoe" -f "$work/copy.txt" -o "$work/copy.txt"
is_code 1 "a text as output is refused"
check "... and untouched" cmp "$work/copy.txt" "$work/one.txt"
run calibrate -m "$llama" -f "$work/one.txt" --in-file "$work/1.json" -o "$work/y.json"
is_code 1 "a profile of another model is refused before any work"
check "... with the reason" grep -q 'a profile of another model' "$work/err"
run calibrate --in-file "$work/1.json" "$work/llama.json" --show-statistics
is_code 1 "profiles of two models are not joined"
run calibrate -m "$olmoe" -f "$work/empty.txt" -o "$work/y.json"
is_code 1 "nothing to count"
run calibrate -m "$olmoe" -f "$work/none.txt" -o "$work/y.json"
is_code 1 "a text that is not there"
check "... by name" grep -q 'cannot read .*none.txt: No such file' "$work/err"
run calibrate -m "$olmoe" -f "$work/long.txt" "$work/none.txt" -o "$work/y.json"
is_code 1 "... as the second"
check "... before the first is read" test "$(cat "$work/err")" = "npumoe: cannot read $work/none.txt: No such file or directory" -a ! -e "$work/y.json.partial"
run calibrate -m "$olmoe" -f "$work" -o "$work/y.json"
check "a folder is no text" grep -q 'cannot read .*: Is a directory' "$work/err"
run calibrate --in-file "$work/1.json" --in-file "$work/2.json" --show-statistics
check "two profiles are joined in silence" test ! -s "$work/err"
run calibrate --in-file "$work/1.json" --in-file "$work/2.json" --in-file "$work/./1.json" --show-statistics
is_code 0 "a profile that is named twice counts twice"
echo "$work/./1.json is named more than once, and counts as often" | err_is "... which is said"
sed 's/"tokens":\([0-9]\)/"tokens":9\1/' "$work/1.json" >"$work/lie.json"
run calibrate --show-statistics "$work/lie.json"
is_code 1 "a profile that contradicts itself"
check "... names file and key" grep -q 'lie.json: .*found' "$work/err"
for args in "-f $work/one.txt" "-o $work/z" "--trace $work/all.trace" "-f $work/one.txt -o -" \
    "-f $work/one.txt -o $work/z --trace-csv $work/c"; do
    run calibrate -m "$olmoe" $args
    is_code 1 "calibrate ${args#-? "$work"/} is refused"
done
cp "$work/one.txt" "$work/text.txt"
for args in "-o $work/z --html $work/z" "--trace $work/z --trace-csv $work/z" "-o $work/text.txt"; do
    run calibrate -m "$olmoe" -f "$work/text.txt" $args
    is_code 1 "calibrate -f text.txt $(echo "$args" | sed "s|$work/||g") is refused"
done
check "the text is whole" cmp "$work/one.txt" "$work/text.txt"
check "no output appeared" sh -c "! ls '$work/y.json' '$work/z'"
done_testing
