#!/bin/sh
# info, tokenize, logits, perplexity, bench, doctor on small models, checked against each other.
. "$(dirname "$0")/common/tap.sh"
olmoe=$(tiny olmoe)
phimoe=$(tiny phimoe)
granite=$(tiny granitemoe)

# ---- info ----
for family in olmoe phimoe granitemoe llama qwen2moe qwen3moe; do
    run info "$(tiny $family)" -c 128,256
    is_code 0 "info on $family"
    sed "s|$work|DIR|; s/^format .*/format/; s/^\(128\|256\) .*/\1/" "$work/out" >"$work/o"
    mv "$work/o" "$work/out"
    out_is_file "info-$family.txt" "... as expected"
done
run info -m "$olmoe" --json
is_code 0 "info --json"
for key in '"architecture": "olmoe"' '"supported": true' '"parameters_active":' '"router":' '"kv_bytes":' '"tensor_types":' '"general.architecture": "olmoe"'; do
    check "... has $key" grep -qF "$key" "$work/out"
done
run info "$olmoe" --metadata
check "info --metadata lists the keys" grep -q '^olmoe.expert_count  *[0-9]' "$work/out"
# Another architecture's file can be described, not run: the same length, one letter changed.
sed 's/general.architecture\(........\)..../&/; s/olmoe/olmox/g' "$olmoe" >"$work/olmox.gguf"
run info "$work/olmox.gguf"
is_code 0 "info on an unknown architecture"
check "... says that it cannot be run" grep -q '^architecture   olmox (cannot be run by this version)$' "$work/out"
check "... and shows what the header says" grep -q '^experts  *[0-9]* per layer' "$work/out"
run run -m "$work/olmox.gguf" -p x
is_code 1 "run refuses it"
check "... by name, with the list of those it knows" grep -q "olmox.*olmoe" "$work/err"

# ---- tokenize ----
run tokenize -m "$olmoe" -p 'the sea'
is_code 0 "tokenize"
ids=$(sed 's/ ->.*//; s/ //g' "$work/out" | tr '\n' ',' | sed 's/,$//; s/,/, /g')
run tokenize -m "$olmoe" -p 'the sea' --ids
echo "[$ids]" | out_is "--ids prints the same ids as a JSON array"
n=$(echo "$ids" | tr ',' '\n' | wc -l)
run tokenize -m "$olmoe" -p 'the sea' --show-count
check "--show-count" grep -qx "Total number of tokens: $n" "$work/out"
run tokenize -m "$(tiny llama)" -p 'x' --ids
check "BOS is added where the model asks for it" grep -q '^\[1, ' "$work/out"
run tokenize -m "$(tiny llama)" -p 'x' --ids --no-bos
check "... not with --no-bos" sh -c "! grep -q '^\[1, ' '$work/out'"
run tokenize -m "$olmoe" -p '' --ids
echo '[]' | out_is "an empty text"

cp "$olmoe" "$work/other.gguf"
perl -0777 -pi -e 's/(general\.architecture\x08\0\0\0.{8})olmoe/$1gpt99/s' "$work/other.gguf"
run tokenize -m "$work/other.gguf" -p 'the sea' --ids
is_code 0 "tokenize needs no architecture that can be run"
run run -m "$work/other.gguf" -p x
check "... run does" grep -q "architecture 'gpt99' is not supported" "$work/err"
for vocab in gpt-2 phi-3 llama-spm; do
    file=../shared/vocab/ggml-vocab-$vocab.gguf
    if [ -f "$file" ]; then
        run tokenize -m "$file" -p 'the sea' --ids
        is_code 0 "tokenize with the vocabulary of $vocab alone"
    else
        skip "no $file"
    fi
done

# ---- logits: fp32 gives the same bits whatever the chunk ----
run logits -m "$olmoe" --tokens 5,6,7,8 --all --precision fp32 -o "$work/all.npy"
is_code 0 "logits --all"
run logits -m "$olmoe" --tokens '[5, 6, 7, 8]' -o "$work/last.npy" -ub 2 --precision fp32
is_code 0 "logits of the last token, in chunks of 2"
vocab=$("$NPUMOE" info "$olmoe" --json | sed -n 's/.*"n_vocab": \([0-9]*\).*/\1/p')
check "the .npy header" sh -c "head -c 128 '$work/all.npy' | tr -d '\n' | LC_ALL=C grep -aq \"NUMPY.*{'descr': '<f4', 'fortran_order': False, 'shape': (4, $vocab), } *\$\""
check "... data begins at a multiple of 64, sizes agree" test "$(wc -c <"$work/all.npy")" = $((128 + 4 * 4 * vocab))
check "the last row of --all is the row without" sh -c "tail -c $((4 * vocab)) '$work/all.npy' >'$work/a'; tail -c $((4 * vocab)) '$work/last.npy' >'$work/b'; cmp '$work/a' '$work/b'"
echo '[5, 6, 7, 8]' >"$work/ids.json"
"$NPUMOE" logits -m "$olmoe" --tokens "@$work/ids.json" --all --precision fp32 -o - </dev/null >"$work/stdout.npy" 2>/dev/null
check "-o - and @FILE give the same bytes" cmp "$work/stdout.npy" "$work/all.npy"
printf '5 6\n7, 8\n' >"$work/ids.txt"
run logits -m "$olmoe" --tokens "@$work/ids.txt" --all --precision fp32 -o "$work/lines.npy" -c 0
check "@FILE takes ids in lines, -c 0 the context of the training" cmp "$work/lines.npy" "$work/all.npy"
run run -m "$olmoe" -p x -n 2 -c 0 -v
check "run -c 0" grep -q "context $("$NPUMOE" info "$olmoe" --json | sed -n 's/.*"n_ctx_train": \([0-9]*\).*/\1/p')," "$work/err"
run run -m "$olmoe" -p x -n 4 -s 3 --temp 0
cp "$work/out" "$work/greedy"
for p in 0 1e-9; do
    run run -m "$olmoe" -p x -n 4 -s 3 --temp 1 --top-p $p
    check "--top-p $p keeps the likeliest token" cmp "$work/out" "$work/greedy"
done
run logits -m "$olmoe" --tokens 5,6,7,8 --top 3
check "without -o: the likeliest tokens" sh -c "[ \$(wc -l <'$work/out') = 3 ] && grep -Eq '^ *[0-9]+ +-?[0-9]+\.[0-9]{6} +0\.[0-9]{6} ' '$work/out'"
best=$(awk 'NR == 1 { print $1 }' "$work/out")
run run -m "$olmoe" --temp 0 -n 1 -p x -v
is_code 0 "run -v"
perl_best=$(perl -e 'local $/; open F, "<:raw", $ARGV[0]; my @v = unpack "f<*", substr(<F>, 128); my $b = 0; $v[$_] > $v[$b] and $b = $_ for 0 .. $#v; print $b' "$work/last.npy")
check "... the first is the largest of the .npy" test "$best" = "$perl_best"
run logits -m "$olmoe" --tokens 5,6 -o "$work/no/such/folder.npy"
is_code 1 "a folder that is not there"

# ---- perplexity: against the definition, from the .npy of logits ----
awk 'BEGIN { for (i = 0; i < 24; i++) printf "the %d sea and %d winds, ", i, i * 7 }' >"$work/text"
"$NPUMOE" tokenize -m "$olmoe" -f "$work/text" --ids >"$work/ids.json" 2>/dev/null
# reference WINDOW FIRST: the perplexity of whole windows, counting tokens from FIRST on
cat >"$work/ppl.pl" <<'P'
my ($exe, $model, $ids, $window, $first, $stride, $tmp) = @ARGV;
open F, '<', $ids; my @t = <F> =~ /\d+/g;
my ($nll, $n, $seen) = (0, 0, 1);
for (my $s = 0; $stride ? 1 : $s + $window <= @t; $s += $stride || $window) {
    my $end = $s + $window; $end = @t if $end > @t;
    my @w = @t[$s .. $end - 1];
    system($exe, 'logits', '-m', $model, '--tokens', join(',', @w), '--all', '--precision', 'fp32', '-o', $tmp) and die;
    open N, '<:raw', $tmp; local $/; my @l = unpack 'f<*', substr(<N>, 128);
    my $v = @l / @w;
    for my $i (1 .. $#w) {
        next if $stride ? $s + $i < $seen : $i < $first;
        my @row = @l[($i - 1) * $v .. $i * $v - 1];
        my $m = $row[0]; $_ > $m and $m = $_ for @row;
        my $sum = 0; $sum += exp($_ - $m) for @row;
        $nll += log($sum) + $m - $row[$w[$i]]; $n++;
    }
    $seen = $end;
    last if $end == @t && $stride;
}
printf "%.4f %d\n", exp($nll / $n), $n;
P
ppl() { # NAME WINDOW FIRST STRIDE OPTIONS...
    name=$1 window=$2 first=$3 stride=$4
    shift 4
    want=$(perl "$work/ppl.pl" "$NPUMOE" "$olmoe" "$work/ids.json" "$window" "$first" "$stride" "$work/w.npy" 2>/dev/null)
    run perplexity -m "$olmoe" -f "$work/text" -c "$window" --precision fp32 "$@"
    is_code 0 "perplexity, $name"
    got=$(sed -n 's/^Final estimate: PPL = \([0-9.]*\) .*/\1/p' "$work/out")
    n=$(sed -n 's/^\([0-9]*\) tokens counted in .*/\1/p' "$work/err")
    check "... is that of the definition ($want)" sh -c \
        "awk 'BEGIN { split(\"$want\", w); d = \"$got\" - w[1]; exit !(d * d < 1e-6 * w[1] * w[1] && \"$n\" == w[2]) }'"
}
ppl "second halves" 64 33 0
ppl "--score all" 64 1 0 --score all
ppl "--ppl-stride" 64 0 24 --ppl-stride 24
ppl "odd windows in small chunks" 33 17 0 -ub 5

run perplexity -m "$olmoe" -f "$work/text" -c 64 --chunks 2
check "--chunks 2 stops after two windows" grep -Eq '^\[1\][0-9.]+,\[2\][0-9.]+,$' "$work/out"
run perplexity -m "$olmoe" -f "$work/text" -c 64 --chunks 0
is_code 1 "--chunks 0"
check "... says what it may be" grep -qF -e '-1 (all), or 1 or more' "$work/err"
run perplexity -m "$olmoe" -f "$work/text" -c 64 --kl-divergence-base "$work/base.kld"
is_code 0 "writing predictions"
run perplexity -m "$olmoe" --kl-divergence --kl-divergence-base "$work/base.kld"
is_code 0 "comparing a model with itself"
check "... KL divergence 0" grep -Eq '^Mean KLD +: +-?0\.00000[0-9] ' "$work/out"
check "... the same top token everywhere" grep -q '^Same top token  *: *100.0000 %' "$work/out"
"$NPUMOE_BUILD/mkmodel" --preset tiny-olmoe --type Q2_K --threads 1 "$work/q2.gguf" >/dev/null 2>&1
run perplexity -m "$work/q2.gguf" --kl-divergence --kl-divergence-base "$work/base.kld"
kld=$(sed -n 's/^Mean KLD *: *\([0-9.]*\) .*/\1/p' "$work/out")
check "... a coarser copy differs (KLD $kld)" sh -c "awk 'BEGIN { exit !(\"$kld\" > 0.001) }'"
check "... by ranks from the largest to the median, the mean among them" awk '
    / KLD( below)? *:/ { v = substr($0, index($0, ":") + 2) + 0 }
    /^Mean KLD/ { mean = v }
    /^Maximum KLD/ { most = last = v; n = 1 }
    /^99|^90|^Median KLD/ { n += v > 0 && v < last; last = v }
    END { exit !(n == 5 && mean < most && mean > last / 2) }' "$work/out"
head -c 5000 "$work/base.kld" >"$work/cut.kld"
run perplexity -m "$olmoe" --kl-divergence --kl-divergence-base "$work/cut.kld"
is_code 1 "a file of predictions that is cut short"
check "... is named" grep -q 'cut.kld is cut short or broken' "$work/err"

# ---- --precision: a family whose router asks for more ----
"$NPUMOE_BUILD/mkmodel" --preset tiny-phimoe --type Q8_0 --threads 1 "$work/phi.gguf" >/dev/null 2>&1
for precision in auto full; do
    run logits -m "$work/phi.gguf" --tokens "$(seq -s, 5 90)" --all --precision $precision -o "$work/phi.$precision.npy"
done
check "a router whose weights jump: auto is full" cmp "$work/phi.auto.npy" "$work/phi.full.npy"

# ---- quantize ----
"$NPUMOE_BUILD/mkmodel" --preset tiny-olmoe --type F16 --threads 1 "$work/f16.gguf" >/dev/null 2>&1
run quantize "$work/f16.gguf" "$work/q8.gguf" Q8_0
is_code 0 "quantize"
check "... a line per tensor on standard error" grep -q 'blk.0.ffn_down_exps.weight .*F16 .*-> Q8_0' "$work/err"
check "... nothing on standard output" test ! -s "$work/out"
run info "$work/q8.gguf"
check "... info shows the new type" grep -q '^expert types   gate Q8_0; up Q8_0; down Q8_0$' "$work/out"
run quantize --dry-run "$work/f16.gguf" "$work/dry.gguf" Q4_K_M
is_code 0 "quantize --dry-run"
check "... writes nothing" test ! -e "$work/dry.gguf"
run quantize "$work/q8.gguf" "$work/again.gguf" Q4_0
is_code 1 "a quantised input is refused"
run quantize --allow-requantize "$work/q8.gguf" "$work/again.gguf" Q4_0
is_code 0 "... unless --allow-requantize"
run quantize "$work/f16.gguf" "$work/x.gguf" Q9_9
is_code 1 "an unknown type is refused"
check "... with the list of types" grep -q "Q9_9.*Q4_K_M" "$work/err"
run quantize "$work/f16.gguf" "$work/x.gguf"
is_code 1 "a word is missing"
echo 'npumoe: quantize: give IN.gguf OUT.gguf TYPE (npumoe help quantize)' | err_is "... says what belongs there"
check "nothing is left behind" sh -c "! ls '$work' | grep -q partial"

# ---- bench ----
run bench --no-probe -m "$olmoe" -p 16,32 -n 4 -d 0,8 -r 2
is_code 0 "bench"
check "... llama-bench's columns" grep -Eq '^\| model +\| +size \| +params \| backend +\| threads \| +test \| +t/s \|' "$work/out"
for test in pp16 pp32 tg4 'pp16 @ d8' 'pp32 @ d8' 'tg4 @ d8'; do
    check "... a row for $test" grep -Eq "\| +$test \| +[0-9.]+ ± [0-9.]+ \|" "$work/out"
done
check "... and the build" grep -Eq '^build: .+ \([0-9]+\)$' "$work/out"
run bench --no-probe -m "$olmoe" -p 16 -n 0 -r 3 -o json
for key in build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params n_batch n_ubatch n_threads type_k type_v n_gpu_layers n_cpu_moe n_prompt n_gen n_depth test_time avg_ns stddev_ns avg_ts stddev_ts samples_ns samples_ts; do
    check "... JSON has $key" grep -q "\"$key\":" "$work/out"
done
check "... is one array" sh -c "[ \"\$(head -n 1 '$work/out')\" = '[' ] && [ \"\$(tail -n 1 '$work/out')\" = ']' ]"
# The figures are those of the samples: 16 tokens in each, mean, and deviation over n - 1.
cat >"$work/bench.pl" <<'EOF'
use JSON::PP;
my $t = decode_json(join '', <STDIN>)->[0];
my @s = @{$t->{samples_ts}};
my @ns = @{$t->{samples_ns}};
my ($mean, $var) = (0, 0);
$mean += $_ / @s for @s;
$var += ($_ - $mean)**2 / (@s - 1) for @s;
sub near { abs($_[0] - $_[1]) <= 1e-4 * abs($_[1]) or die "$_[2]: $_[0], expected $_[1]\n" }
near($s[$_], 16e9 / $ns[$_], 'rate of a sample') for 0 .. $#s;
near($t->{avg_ts}, $mean, 'mean');
near($t->{stddev_ts}, sqrt $var, 'deviation');
@s == 4 or die "samples\n";
EOF
run bench --no-probe -m "$olmoe" -p 16 -n 0 -r 4 -o json
check "... its figures are those of its samples" sh -c "perl '$work/bench.pl' <'$work/out'"
run bench --no-probe -m "$olmoe" -p 8,16 -n 0 -r 1 -o jsonl
check "jsonl: one object per line" test "$(grep -c '^{.*}$' "$work/out")" = 2
run bench --no-probe -m "$olmoe" -p 8,16 -n 0 -r 1 -o csv
check "csv: a head and two rows" test "$(wc -l <"$work/out")" = 3
run bench --no-probe -m "$olmoe" -p '4-16*2' -n 0 -r 1 -t 1,2
check "ranges and lists multiply" test "$(grep -c '| *pp' "$work/out")" = 6

# ---- doctor ----
run doctor
is_code 0 "doctor"
check "... names the kernels" grep -Eq '^kernels +(scalar|avx2|avx512|amx|neon)( with [a-z0-9 ,]+)? \(usable: .*; built: .*\)$' "$work/out"
check "... and the device's limits" grep -Eq '^ +programs: any number, bytes of one: any, of all: any; capacities 16 to [0-9]+ in steps of 16$' "$work/out"
run doctor --json
cat >"$work/doctor.pl" <<'EOF'
use JSON::PP;
local $/;
my ($tile, $cpu) = @{decode_json(<STDIN>)->{devices}};
$tile->{name} eq 'tile' && $tile->{weights}[0] eq 'file' && @{$tile->{weights}} <= 2 or die "forms\n";
exists $tile->{$_} && !defined $tile->{$_} or die "$_\n" for qw(slots program_bytes memory_bytes);
$tile->{capacity_min} == 16 && $tile->{queue_depth} == 64 && $tile->{threads} == 1 or die "figures\n";
$cpu->{name} eq 'cpu' && !exists $cpu->{weights} or die "none\n";
EOF
check "... in JSON null where there is none" sh -c "perl '$work/doctor.pl' <'$work/out'"
check "... as JSON" grep -q '"chosen": "' "$work/out"
tier=$(sed -n 's/.*"chosen": "\(.*\)".*/\1/p' "$work/out")
run doctor -m "$olmoe"
is_code 0 "doctor -m"
head -c 3000 "$olmoe" >"$work/cut.gguf"
for model in "$work/cut.gguf" "$work/none.gguf"; do
    run doctor -m "$model"
    is_code 1 "doctor -m $(basename "$model")"
    check "... says what is amiss" grep -q "^note: the model cannot be used: .*$model" "$work/out"
    check "... which is something" sh -c "! grep -q 'nothing amiss' '$work/out'"
    run doctor --json -m "$model"
    check "... as JSON" grep -q "\"model_problem\": \".*$model" "$work/out"
done
run bench --no-probe -m "$olmoe" -p 4 -n 0 -r 1
check "... bench says the same ($tier)" grep -q "CPU ($tier)" "$work/out"
run bench --no-probe -m "$olmoe" -p 4 -n 0 -r 1 --isa scalar
check "--isa scalar" grep -q "CPU (scalar)" "$work/out"
check "phimoe and granitemoe are there too" test -s "$phimoe" -a -s "$granite"
done_testing
