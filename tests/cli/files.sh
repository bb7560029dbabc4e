#!/bin/sh
# Files that the verbs write: none is lost, none destroys what is read, none is left half done.
. "$(dirname "$0")/common/tap.sh"
olmoe=$(tiny olmoe)
cp "$olmoe" "$work/model.gguf"
model=$work/model.gguf
unchanged() { check "... the model is untouched" cmp "$model" "$olmoe"; }
no_partial() { check "... no partial file" sh -c "! ls '$work' | grep -q partial"; }

# ---- the model as output ----
ln -s model.gguf "$work/link.gguf"
for name in model link; do
    run logits -m "$model" --tokens 5,6 -o "$work/$name.gguf"
    is_code 1 "logits -o $name.gguf is refused"
    check "... with the reason" grep -q "^npumoe: -o: .*$name.gguf is the model" "$work/err"
    unchanged
    run perplexity -m "$model" -p 'once upon a time there was a sea' -c 4 \
        --kl-divergence-base "$work/$name.gguf"
    is_code 1 "perplexity --kl-divergence-base $name.gguf is refused"
    unchanged
    for verb in run logits tokenize perplexity bench; do
        case $verb in
        bench) run bench -m "$model" -p 1 -n 0 -r 1 --log-file "$work/$name.gguf" ;;
        *) run $verb -m "$model" -p x --log-file "$work/$name.gguf" ;;
        esac
        is_code 1 "$verb --log-file $name.gguf is refused"
        unchanged
    done
done
run quantize "$model" "$work/q.gguf" Q2_K --log-file "$model"
is_code 1 "quantize --log-file of its input is refused"
unchanged
cp "$olmoe" "$work/m-00001-of-00002.gguf"
echo part >"$work/m-00002-of-00002.gguf"
run logits -m "$work/m-00001-of-00002.gguf" --tokens 5 -o "$work/m-00002-of-00002.gguf"
is_code 1 "another part of the model is refused"
check "... and untouched" grep -qx part "$work/m-00002-of-00002.gguf"

# ---- what exists stays when the work fails ----
echo old >"$work/keep"
run logits -m "$model" --tokens 5,100000 -o "$work/keep"
is_code 1 "logits that fail"
check "... say why" grep -q 'token 1 is 100000' "$work/err"
check "... keep the file that was there" grep -qx old "$work/keep"
no_partial
i=0
while [ $i -lt 1000 ]; do
    echo "once upon a time there was a ship on the sea"
    i=$((i + 1))
done >"$work/long"
for verb in logits perplexity; do
    case $verb in
    logits) set -- logits --all -c 30000 -o "$work/keep" ;;
    *) set -- perplexity -c 256 --kl-divergence-base "$work/keep" ;;
    esac
    # setsid or not, a background job of sh ignores SIGINT: SIGTERM it is
    "$NPUMOE" "$@" -m "$model" -f "$work/long" </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    n=0
    while ! ls "$work" | grep -q partial && kill -0 $pid 2>/dev/null && [ $n -lt 400 ]; do
        sleep 0.05
        n=$((n + 1))
    done
    check "$verb has begun to write" sh -c "ls '$work' | grep -q partial"
    kill -TERM $pid
    wait $pid
    code=$?
    is_code 143 "... and is stopped"
    check "... the file that was there stays" grep -qx old "$work/keep"
    no_partial
done

# ---- links, pipes, devices ----
ln -s keep "$work/tokeep"
run logits -m "$model" --tokens 5,6 -o "$work/tokeep"
is_code 0 "logits through a link"
check "... the link stays" test -L "$work/tokeep"
check "... its file is replaced" sh -c "head -c 6 '$work/keep' | grep -aq NUMPY"
mkfifo "$work/fifo"
cat "$work/fifo" >"$work/got" &
run logits -m "$model" --tokens 5,6 -o "$work/fifo"
wait $!
is_code 0 "logits into a pipe"
check "... the reader has all of it" cmp "$work/got" "$work/keep"
check "... it is a pipe still" test -p "$work/fifo"
"$NPUMOE" logits -m "$model" --tokens 5,6 -o /dev/stdout </dev/null 2>/dev/null >"$work/stdout"
check "logits into /dev/stdout" cmp "$work/stdout" "$work/keep"
if mknod "$work/full" c 1 7 2>/dev/null && (: >"$work/full") 2>/dev/null; then
    run logits -m "$model" --tokens 5,6 -o "$work/full"
    is_code 1 "a full device"
    check "... says so" grep -q "cannot write .*full: No space left" "$work/err"
    check "... and is there still" test -c "$work/full"
    run run -m "$model" -p x -n 1 --log-file "$work/full"
    check "a log file that cannot be written is reported" \
        grep -q 'cannot write the log file: No space left' "$work/err"
else
    skip "only root makes devices"
fi
run quantize "$model" "$work/fifo" Q8_0 --allow-requantize
is_code 1 "quantize into a pipe is refused"
check "... with the reason" grep -q "fifo': it is a pipe, expected a regular file" "$work/err"
check "... it is a pipe still" test -p "$work/fifo"

# ---- an empty pipe and a signal ----
mkfifo "$work/silent"
exec 9<>"$work/silent" # a writer that says nothing
for verb in run tokenize logits perplexity; do
    "$NPUMOE" $verb -m "$model" <"$work/silent" >"$work/out" 2>"$work/err" &
    pid=$!
    sleep 1
    kill -TERM $pid
    wait $pid
    code=$?
    is_code 143 "$verb that waits for its text is stopped in good order"
done
exec 9>&-

# ---- what the file says is harmless on a terminal ----
esc=$(printf '\033')
"$NPUMOE_BUILD/mkmodel" --preset tiny-olmoe --threads 1 "$work/name.gguf" >/dev/null 2>&1
perl -0777 -pi -e 's/(general\.name\x08\0\0\0.{8})(...)/$1\x1b[7/s' "$work/name.gguf"
run info "$work/name.gguf" --metadata
is_code 0 "info of a file with an escape sequence in its name"
check "... shows it as text" grep -q 'x1b\[7' "$work/out"
check "... and sends none" sh -c "! grep -q '$esc' '$work/out'"
run tokenize -m "$model" -p 'a\x1bb\nc' --no-bos
check "tokenize sends no escape" sh -c "! grep -q '$esc' '$work/out'"
check "... but shows it" grep -q "x1b'" "$work/out"

run perplexity -m "$model" -f "$work/long" -c 64 --chunks 1
check "perplexity measures the load time" \
    sh -c "grep 'load time' '$work/err' | grep -qv ' 0\.00 ms'"
done_testing
