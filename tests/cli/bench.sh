#!/bin/sh
# bench and probe: the figures follow from each other, from the model and from the cost table; files
# that are none are refused by name. Speeds themselves are not judged: the machine may be busy.
. "$(dirname "$0")/common/tap.sh"
"$NPUMOE_BUILD/mkmodel" --preset tiny-olmoe --type F32 --threads 1 "$work/f32.gguf" >"$work/mk" 2>&1
olmoe=$(tiny olmoe)
llama=$(tiny llama)
json() { perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>); '"$1" <"$2"; }

# ---- a table whose figures are round ----
cat >"$work/cost.json" <<'X'
{"schema": "npumoe-cost-table", "schema_version": 1, "isa": "scalar",
 "tiers": ["scalar", "avx2", "avx512", "amx", "neon"], "machine": {"cpu": {"model": "a round one"}},
 "multiply": [
  {"type": "f32", "unit": "scalar", "isa": "scalar", "from": "registers", "threads": 1, "gops_per_s_max": 50},
  {"type": "f32", "unit": "scalar", "isa": "scalar", "from": "l1", "threads": 1, "gops_per_s_max": 90},
  {"type": "i8", "unit": "half", "isa": "scalar", "from": "registers", "threads": 1, "gops_per_s_max": 160},
  {"type": "f32", "unit": "other", "isa": "avx2", "from": "registers", "threads": 1, "gops_per_s_max": 999},
  {"type": "f32", "unit": "scalar", "isa": "scalar", "from": "registers", "threads": 2, "gops_per_s_max": 100}],
 "read": [
  {"from": "l1", "bytes_per_thread": 65536, "threads": 1, "gb_per_s_max": 400},
  {"from": "l2", "bytes_per_thread": 1048576, "threads": 1, "gb_per_s_max": 200},
  {"from": "pages_huge", "bytes_per_thread": 536870912, "threads": 1, "gb_per_s_max": 20},
  {"from": "file", "bytes_per_thread": 536870912, "threads": 1, "gb_per_s_max": 16},
  {"from": "file", "bytes_per_thread": 536870912, "threads": 2, "gb_per_s_max": 30}]}
X
run bench -m "$work/f32.gguf" --isa scalar -t 1 --cost "$work/cost.json" -p 16 -n 4 -pg 16,4 -d 8 -r 2 -o json
is_code 0 "bench --cost"
check "... says that the table is of another machine" grep -q 'another machine: a round one' "$work/err"
cp "$work/out" "$work/run.json"
# tiny-olmoe: 3 layers, width 128, 4 heads of 32, 16 experts of 96, 4 used, 640 words; all F32.
cat >"$work/ceiling.pl" <<'X'
sub near { abs($_[0] - $_[1]) <= 1e-6 * abs($_[1]) or die "$_[2]: $_[0], expected $_[1]\n" }
my ($pp, $tg, $pg) = @$t;
my $layer = 4 * 128 * 128 + 16 * 128 + 4 * 3 * 96 * 128;
my $matrix = 2 * (2 * 16 * $layer + $layer + 15 * 2 * 128 * 128);
my ($seen, $seen_gen) = (0, 0);
$seen += $_ for 9 .. 24;
my $ops = $matrix + 2 * 128 * 640 + 2 * 4 * 64 * (2 * $seen + 24);
near($pp->{prompt_ops}, $ops, 'operations');
near($pp->{ceiling_ts}, 16 * 80e9 / $ops, 'ceiling of the prompt'); # 160 of 8 bits are 80 of 16
near($pp->{ceiling_i8_ts}, 16 * 160e9 / $ops, 'with 8 bits');
near($pp->{ceiling_percent}, 100 * $pp->{avg_ts} / $pp->{ceiling_ts}, 'share');
$pp->{limit_unit} eq 'half / 2' && $tg->{limit_read_from} eq 'l2' or die "units\n"; # 8.5 MB: more than L2
$seen_gen += $_ for 9 .. 12;
my $norms = 3 * 4 * 128 + 128;
my $bytes = 4 * 4 * (3 * $layer + 128 * 640 + 128 + $norms) + 3 * 4 * 32 * 4 * $seen_gen;
near($tg->{gen_read_bytes}, $bytes, 'bytes read');
near($tg->{ceiling_ts}, 4 * 200e9 / $bytes, 'ceiling of generation');
my $later = 0;
$later += $_ for 25 .. 28;
my $gen = 4 * 4 * (3 * $layer + 128 * 640 + 128 + $norms) + 3 * 4 * 32 * 4 * $later;
near($pg->{ceiling_ts}, 20 / ($ops / 80e9 + $gen / 200e9), 'ceiling of both');
for (@$t) {
    my $n = $_->{n_prompt} + $_->{n_gen};
    near($_->{cpu_seconds_per_1k_tokens}, 1000 * $_->{cpu_seconds} / $n, 'CPU time');
    $_->{ceiling_percent} > 0 && $_->{ceiling_percent} < 150 or die "share $_->{ceiling_percent}\n";
    near($_->{kv_bytes}, 3 * 2 * 128 * 2 * ($_->{n_depth} + $n), 'KV cache');
}
X
check "... ceilings are those of table and geometry" json "$(cat "$work/ceiling.pl")" "$work/run.json"
if [ -r /proc/self/clear_refs ]; then
    check "... memory: more than the weights, little beyond them" json \
        'for (@$t) { $_->{peak_rss_bytes} > 8e6 && $_->{peak_rss_beyond_bytes} < 64e6 or die }' "$work/run.json"
else
    skip "no /proc/self"
fi
run bench -m "$work/f32.gguf" --isa scalar -t 1,2,3 --cost "$work/cost.json" -p 8 -n 0 -r 1 -o json
check "limits are those of the number of threads" json \
    '$t->[0]{limit_gops_per_s} == 80 && $t->[1]{limit_gops_per_s} == 100 && $t->[1]{limit_read_gb_per_s} == 30 or die' "$work/out"
check "... without figures there is no ceiling" json \
    'exists $t->[2]{ceiling_ts} && !defined $t->[2]{ceiling_ts} or die' "$work/out"
check "... which is said" grep -q 'no limits for 3 threads in .*cost.json; npumoe probe -t 3' "$work/err"

# ---- lists ----
run bench --no-probe -m "$olmoe" -m "$llama" -t 1,2 -p 4 -p 8 -n 2 -ub 4,8 -r 1
is_code 0 "lists, and options given again"
check "... multiply: 2 models, 2 threads, 2 sizes, 3 tests" test "$(grep -c '| *[pt][pg][248] |' "$work/out")" = 24
check "... both models" test "$(grep -c '^| olmoe' "$work/out") $(grep -c '^| llama' "$work/out")" = "12 12"
check "... a column for what varies" grep -q '| n_ubatch |' "$work/out"
check "... no ceilings without a probe" sh -c "! grep -q ceiling '$work/out'"
run bench --no-probe -m "$olmoe,$llama" -p 4 -n 0 -r 1 --isa scalar,auto -ctk f16,f32 -o jsonl
check "models, tiers and types with commas" test "$(wc -l <"$work/out")" = 8
run bench --no-probe -m "$olmoe" -p 4 -n 0 -r 1 --precision full,fp32 --precision auto
check "precisions, each named" test "$(sed -n 's/.*| \(full\|fp32\|auto\)  *|.*/\1/p' "$work/out" | tr '\n' ' ')" = 'full fp32 auto '
run bench --no-probe -m "$olmoe,$work/nothere.gguf" -p 4 -n 0 -r 1
is_code 1 "a model that is not there"
check "... is found before anything is measured" test ! -s "$work/out"
check "... and named" grep -q "cannot open '.*nothere.gguf'" "$work/err"
run bench --no-probe -m "$olmoe" -p 4 -n 0 -r 1 --isa scalar,nosuch
is_code 1 "a tier that is not there"
check "... is found before anything is measured, and named" sh -c "test ! -s '$work/out' && grep -q \"no 'nosuch'\" '$work/err'"
run bench --no-probe -m "$olmoe" -p 0 -n 0
is_code 1 "nothing to measure"
NPUMOE_MODEL=$llama "$NPUMOE" bench --no-probe -p 4 -n 0 -r 1 >"$work/out" 2>"$work/err"
check "the model of the environment" grep -q '^| llama' "$work/out"
run bench --no-probe -m "$olmoe" -p 8 -n 0 -pg 8,4 -r 1 -o csv
check "csv: as many values as names" perl -ne '
    my $n = () = /("(?:[^"]|"")*"|[^,]*)(?:,|$)/gm; $first //= $n; $n == $first or die "$n, $first\n"' "$work/out"
check "a prompt and tokens are one test" grep -q ',8,4,0,' "$work/out"

# ---- two runs side by side ----
run bench --compare "$work/run.json" "$work/run.json" -o json
is_code 0 "a run beside itself"
check "... ratio 1, nothing differs" json \
    '@$t == 3 or die; for (@$t) { $_->{compare_ratio} == 1 && $_->{compare_cpu_ratio} == 1 && $_->{compare_differs} eq "" or die }' "$work/out"
run bench --compare "$work/run.json" "$work/run.json"
check "... in the table" test "$(grep -c '|   1.00 |      1.00 |  *|$' "$work/out")" = 3
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>);
    for (@$t) { $_->{avg_ts} *= 2; $_->{n_threads} = 7; $_->{isa} = "other" } print encode_json($t)' \
    <"$work/run.json" >"$work/other.json"
run bench --compare "$work/other.json" "$work/run.json"
check "another run: half as fast, and what differs" test \
    "$(grep -c '|   0.50 |      1.00 | n_threads 7 -> 1, isa other -> scalar |$' "$work/out")" = 3
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>);
    for (@$t) { $_->{model_filename} = "/elsewhere/f32.gguf"; $_->{model_type} = "olmoe ?B"; delete $_->{isa} } print encode_json($t)' \
    <"$work/run.json" >"$work/peer.json"
run bench --compare "$work/peer.json" "$work/run.json"
check "another program's: the same model by another name" test "$(grep -c '| isa ? -> scalar |$' "$work/out")" = 3
sed 's/"model_size":[0-9]*/"model_size":77/g' "$work/peer.json" >"$work/smaller.json"
run bench --compare "$work/smaller.json" "$work/run.json"
check "... not the same when it has another size" test "$(grep -c 'model_size 77 -> ' "$work/out")" = 3
run bench -m "$work/f32.gguf" --isa scalar -t 1 --no-probe -p 16 -n 5 -d 8 -r 1 -o json --compare "$work/run.json"
check "a measured run: found again, and what was not there" json \
    '$t->[0]{compare_ratio} > 0 && $t->[0]{compare_avg_ts} > 0 && $t->[0]{compare_differs} eq "" && !defined $t->[1]{compare_ratio} && $t->[1]{compare_differs} eq "no such test" or die' "$work/out"
"$NPUMOE" bench --no-probe -m "$olmoe" -p 4,8 -n 0 -r 1 -o jsonl >"$work/lines" 2>"$work/err"
run bench --compare "$work/lines" "$work/lines"
check "JSON lines too" test "$(grep -c '|   1.00 |' "$work/out")" = 2

run bench --compare "$work/other.json" "$work/run.json" -ub 256
is_code 1 "two files and an option of measuring"
check "... is refused by name" grep -q 'measures nothing: -ub has no meaning beside it' "$work/err"

# ---- text of others ----
perl -MJSON::PP -e 'local $/; my $t = decode_json(<STDIN>);
    for (@$t) { $_->{isa} = "x" . "\x{20ac}" x 300; $_->{cpu_info} = "\x{1b}]0;title\x{7}"; $_->{limit_unit} = "\x{1b}[2J" }
    print encode_json($t)' <"$work/run.json" >"$work/hostile.json"
utf8() { perl -e 'local $/; my $t = <STDIN>; utf8::decode($t) && $t !~ /[\x00-\x09\x0b-\x1f\x7f-\x9f]/ or exit 1' <"$1"; }
for format in md csv; do
    run bench --compare "$work/run.json" "$work/hostile.json" -o $format
    is_code 0 "hostile results as $format"
    check "... whole characters, none that commands a terminal" utf8 "$work/out"
done
run bench --compare "$work/run.json" "$work/hostile.json" -o json
check "... and differences that are cut stay text" json \
    'for (@$t) { $_->{compare_differs} =~ /isa scalar -> x\x{20ac}+(,|$)/ or die $_->{compare_differs} }' "$work/out"
cp "$work/f32.gguf" "$work/$(printf 'caf\351.gguf')"
run bench --no-probe -m "$work/$(printf 'caf\351.gguf')" --isa scalar -t 1 -p 4 -n 0 -r 1 -o json
is_code 0 "a path that is no UTF-8"
check "... is JSON all the same" json '$t->[0]{model_filename} =~ m{/caf\?\.gguf$} or die' "$work/out"
sed 's/"tiers": .*\], "machine"/"tiers": [1, null, {}], "machine"/' "$work/cost.json" >"$work/odd.json"
run bench -m "$work/f32.gguf" --isa scalar -t 1 --cost "$work/odd.json" -p 8 -n 0 -r 1 -o json
is_code 0 "a table whose tiers are no names"
sed '/"read"/,$s/"threads": 1/"threads": 9/' "$work/cost.json" >"$work/unread.json"
run bench -m "$work/f32.gguf" --isa scalar -t 1 --cost "$work/unread.json" -p 8 -n 0 -pg 8,4 -r 1 -o json
check "no read rate: the prompt has a ceiling, prompt and tokens have none" json \
    '$t->[0]{ceiling_ts} > 0 && !defined $t->[1]{ceiling_ts} && $t->[1]{n_gen} == 4 or die' "$work/out"

# ---- files that are none ----
refused() { # NAME MESSAGE ARGS...
    refused_name=$1
    message=$2
    shift 2
    run bench "$@"
    is_code 1 "$refused_name is refused"
    check "... and says why" grep -q "^npumoe: $message" "$work/err"
    check "... before anything is measured" test ! -s "$work/out"
}
printf '[{"n_prompt": 1,\n "n_gen"}]' >"$work/broken"
printf '{"n_prompt": 1, "n_gen": 0, "avg_ts": 2.5}\n{"n_prompt": }\n' >"$work/broken2"
echo '[{"n_prompt": 1, "n_gen": 0}]' >"$work/none"
echo '[]' >"$work/empty"
refused "broken JSON" "--compare: $work/broken is no JSON: line 2: " -m "$olmoe" --compare "$work/broken"
refused "a broken line" "--compare: $work/broken2 is no JSON: line 2: " -m "$olmoe" --compare "$work/broken2"
refused "other JSON" "--compare: $work/none holds no results of bench: entry 1 has no number \"avg_ts\"" -m "$olmoe" --compare "$work/none"
refused "an empty list" "--compare: $work/empty holds no results" -m "$olmoe" --compare "$work/empty"
refused "no file" "cannot read $work/nothing: " -m "$olmoe" --compare "$work/nothing"
refused "a second run that is none" "bench: $work/none holds no results" --compare "$work/run.json" "$work/none"
refused "a file without --compare" "bench: unexpected argument '$work/run.json'" "$work/run.json"
refused "a broken table" "--cost: $work/broken is no JSON: line 2: " -m "$olmoe" --cost "$work/broken"
for option in cost compare; do
    cp "$work/cost.json" "$work/kept.json"
    test $option = compare && cp "$work/run.json" "$work/kept.json"
    cp "$work/kept.json" "$work/was.json"
    refused "a log in place of --$option" "--log-file: $work/kept.json is the file of --$option" \
        -m "$olmoe" --$option "$work/kept.json" --log-file "$work/kept.json"
    check "... which stays" cmp -s "$work/kept.json" "$work/was.json"
done
refused "no table" "--cost: $work/none is no cost table; npumoe probe" -m "$olmoe" --cost "$work/none"
echo '{"schema": "npumoe-plan-cost", "schema_version": 1}' >"$work/plans"
refused "a table of plan" "--cost: $work/plans is a table of npumoe plan, of one model's work; expected one of what the machine can do, which npumoe probe -o FILE makes" -m "$olmoe" --cost "$work/plans"
sed 's/_version": 1/_version": 2/' "$work/cost.json" >"$work/newer"
refused "a newer table" "--cost: $work/newer has version 2 of the table, expected 1" -m "$olmoe" --cost "$work/newer"
sed 's/gops_per_s_max/gops/' "$work/cost.json" >"$work/lacking"
refused "a table without figures" "--cost: $work/lacking lacks figures" -m "$olmoe" --cost "$work/lacking"
# jansson lets no NaN and no infinity in: the first two are no JSON
for rate in NaN 1e999 -1 0 -0.0 1e308 1.1e9; do
    case $rate in
    NaN | 1e999) why='is no JSON: line ' ;;
    1.1e9) shown=1.1e+09 ;;
    1e308) shown=1e+308 ;;
    -0.0) shown=-0 ;;
    *) shown=$rate ;;
    esac
    for entry in 'multiply 3 gops_per_s_max 160' 'read 5 gb_per_s_max 30'; do
        set -- $entry
        sed "s/\"$3\": $4}/\"$3\": $rate}/" "$work/cost.json" >"$work/rate"
        case $rate in
        NaN | 1e999) ;;
        *) why=": entry $2 of \"$1\": \"$3\" is $shown, expected a number above 0 and up to 1e+09\$" ;;
        esac
        refused "$1 with a rate of $rate" "--cost: $work/rate *$why" -m "$olmoe" -t 1 --cost "$work/rate"
    done
done
refused "a pair of one" "-pg: '512' is not a prompt and tokens" -m "$olmoe" -pg 512
refused "a precision" "--precision: 'full,half' is not a list of auto, fast, full, fp32" -m "$olmoe" --precision full,half
refused "a type of cache" "-ctk: 'f16,q4_0' is not a list of f16, q8_0, f32" -m "$olmoe" -ctk f16,q4_0

# ---- probe ----
run probe --quick -t 1 -o "$work/machine.json"
is_code 0 "probe"
check "... nothing on standard output" test ! -s "$work/out"
check "... no part is left" sh -c "! ls '$work' | grep -q partial"
check "... a table with its sections, rates in order" json '
    $t->{schema_version} == 1 && $t->{date} =~ /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ && $t->{machine}{cpu}{online} > 0 or die "head";
    my %at;
    for (@{$t->{multiply}}) {
        $at{"$_->{type} $_->{unit}"} .= "$_->{from} ";
        0 < $_->{gops_per_s_min} && $_->{gops_per_s_min} <= $_->{gops_per_s_median} && $_->{gops_per_s_median} <= $_->{gops_per_s_max} or die "multiply";
    }
    $at{"f32 scalar"} or die "scalar";
    $_ eq "registers l1 l2 " or die "places: $_" for values %at;
    $_->{gb_per_s_max} > 0.01 && $_->{bytes_per_thread} > 0 or die "read" for @{$t->{read}};
    grep { $_->{from} eq "file" } @{$t->{read}} or die "file";
    !exists $t->{product} or die "products take too long for --quick";
    $_->{barrier_us_p95} >= $_->{barrier_us_median} && $_->{launch_us_median} > 0 or die "pool" for @{$t->{pool}}' "$work/machine.json"
run bench -m "$olmoe" -t 1 --cost "$work/machine.json" -p 64 -n 8 -r 2 -o json
check "... which bench takes; shares are between 0 and 150 %" json \
    'for (@$t) { $_->{ceiling_percent} > 0 && $_->{ceiling_percent} < 150 or die $_->{ceiling_percent} }' "$work/out"
run bench -m "$olmoe" -t 1 -p 8 -n 0 -r 1
check "without a table bench probes for itself" grep -q '^limits of this machine, 1 threads: [1-9]' "$work/out"
run probe -m "$work/nothing"
is_code 1 "probe -m of no file"
run probe -m "$olmoe" -o "$olmoe"
is_code 1 "probe -o of the model"
check "... is refused" grep -q 'is the model' "$work/err"
"$NPUMOE" probe -t 1 -o "$work/stopped.json" >"$work/out" 2>"$work/err" &
pid=$!
sleep 0.5
kill -TERM $pid
wait $pid
code=$?
is_code 143 "a signal ends probe"
check "... leaving nothing" sh -c "! ls '$work' | grep -q stopped"
done_testing
