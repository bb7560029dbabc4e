#!/bin/sh
# tools/evaluate --quick: the whole evaluation on small models: that it runs to its end, keeps its figures, writes
# the same page again from them, and has a verdict for each bar. What it measures here means nothing.
. "$(dirname "$0")/common/tap.sh"
leave() { echo "1..0 # SKIP $1"; exit 0; }
command -v python3 >/dev/null 2>&1 || leave "no python3"
[ "${NPUMOE_CONFIG:-release}" = release ] || leave "measures, so release builds only"
case $NPUMOE_BUILD in *-amx) leave "measures, and an emulated unit is slow" ;; esac

evaluate() {
    python3 tools/evaluate/evaluate.py "$@" --out "$work/docs" --npumoe "$NPUMOE" --mkmodel "$NPUMOE_BUILD/mkmodel"
}
page=$work/docs/evaluation.md
check "a quick evaluation" evaluate "$work/folder" --quick
for name in exactness ablation bad-input; do
    check "... $name: raw figures are kept" python3 -m json.tool "$work/docs/evaluation/$name.json"
done
check "... bars of four series" test "$(sed -n 's/^| \([1-5]\) |.*\(met\|\*\*not met\*\*\) |$/\1/p' "$page" | sort -u | tr -d '\n')" = 1235
check "... every step of the planner" grep -q '^| +residency | [0-9]' "$page"
check "... what the device did" grep -q '^| full | [0-9]* | [0-9.]* | [0-9.]* | [1-9]' "$page"
check "exact policies are exact" grep -q '^| 1 | KL < 1e-4.* | met |$' "$page"
check "... and drop nothing" grep -q '^| 1 | no pair dropped.* 0 of [1-9][0-9]* | met |$' "$page"
check "bad input is refused, or does no harm" grep -q '^| 5 | refused with a message.* | met |$' "$page"
cp "$page" "$work/first.md"
check "the page again from its figures" evaluate --report
check "... is the same" cmp "$page" "$work/first.md"
check "what is done is not done again" evaluate "$work/folder" --quick --only bad-input
check "... and nothing is lost" cmp "$page" "$work/first.md"
python() { PYTHONPATH=tools/evaluate PYTHONDONTWRITEBYTECODE=1 python3 -c "$@"; }
check "cost tables: of each number the median, what is no number as it is" python '
from material import median_of
tables = [{"isa": "avx2", "none": None, "on": True, "chunk": 64, "at": [[1, x], [16, 10 * y]]} for x, y in ((3, 1), (1, 2), (7, 9))]
assert median_of(tables) == {"isa": "avx2", "none": None, "on": True, "chunk": 64, "at": [[1, 3], [16, 20]]}, median_of(tables)'
check "the host: lesser kernels than the device" python '
from argparse import Namespace
from evaluate import host_isa
auto = Namespace(host_isa=None)
for usable, host in (("scalar avx2 avx512 amx", "avx512"), ("scalar avx2 avx512", "avx2"), ("scalar avx2", "avx2"), ("scalar neon", "neon")):
    assert host_isa(auto, {"usable": usable.split()}) == host, usable
assert host_isa(Namespace(host_isa="scalar"), {"usable": ["scalar", "avx2"]}) == "scalar"'
evaluate >"$work/out" 2>"$work/err"
check "no folder: says so" grep -q 'which folder to work in' "$work/err"
done_testing
