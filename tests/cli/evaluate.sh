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
python() { PYTHONPATH=tools/evaluate PYTHONDONTWRITEBYTECODE=1 python3 -c "$@"; }
page=$work/docs/evaluation.md
check "a quick evaluation" evaluate "$work/folder" --quick
for name in exactness ablation drift bad-input; do
    check "... $name: raw figures are kept" python3 -m json.tool "$work/docs/evaluation/$name.json"
done
check "... bars of all series" test "$(sed -n 's/^| \([1-5]\) |.*\(met\|\*\*not met\*\*\) |$/\1/p' "$page" | sort -u | tr -d '\n')" = 12345
check "... every step of the planner" grep -q '^| +residency | [0-9]' "$page"
check "... what the device did" grep -q '^| full | [0-9]* | [0-9.]* | [0-9.]* | [1-9]' "$page"
check "exact policies are exact" grep -q '^| 1 | KL < 1e-4.* | met |$' "$page"
check "... and drop nothing, of pairs that the device had" grep -q '^| 1 | no pair dropped.* 0 of [1-9][0-9]*, of which the device had [1-9].* | met |$' "$page"
check "... one chunk in flight: whether rows are shared" grep -q '^| ours, one in flight (\*\*shares no rows\|^Ours, one in flight: .*QKV in [1-9]' "$page"
check "... all tokens to the busiest experts, some on the device, the others overflow" \
    grep -q '^| all to the busiest, all experts on the device |.*| [1-9][0-9]* | [1-9][0-9]* | [1-9][0-9]* | 0 |$' "$page"
for case in 'a plan from the profile of another model' '`plan`, profile of another' '`calibrate`, joining the profile of another'; do
    check "refused: $case" grep -q "^| $case.* | refused | 1 | .* | yes |$" "$page"
done
check "one chunk in flight: a load that fails" grep -q '^| .*: their load fails | finished | 0 | .* | yes |$' "$page"
check "... a launch that fails" grep -q '^| .*: their launches fail | finished | 0 | .* | yes |$' "$page"
check "bad input is refused, or does no harm" grep -q '^| 5 | refused with a message.* | met |$' "$page"
cp "$page" "$work/first.md"
check "the page again from its figures" evaluate --report
check "... is the same" cmp "$page" "$work/first.md"
# A date of long ago shows that nothing was stamped anew.
stamp=$work/folder/bad-input.stamp.json
sed 's/"date": "20[0-9-]* [0-9:]* UTC"/"date": "2001-01-01 00:00 UTC"/' "$stamp" >"$work/dated" && cp "$work/dated" "$stamp"
check "what is done is not done again" evaluate "$work/folder" --quick --only bad-input
check "... nor dated anew" grep -q '^2001-01-01 00:00 UTC, commit' "$page"
undated() { sed 's/^20[0-9-]* [0-9:]* UTC, commit/commit/' "$1"; }
undated "$page" >"$work/dated"
undated "$work/first.md" >"$work/first"
check "... and nothing is lost" cmp "$work/dated" "$work/first"
# Figures of before there were these rows and keys.
check "older figures" python '
import json, pathlib, sys
source, to = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
def old(value):
    if isinstance(value, list):
        return [old(v) for v in value if not isinstance(v, dict) or "row" not in v or v["row"] != "quickest"]
    if isinstance(value, dict):
        return {k: old(v) for k, v in value.items() if k not in ("shared_rows", "in_flight", "host_limit", "one_in_flight", "warm") and "busiest" not in k}
    return value
to.mkdir(parents=True)
for path in source.glob("*.json"):
    data = old(json.loads(path.read_text()))
    if path.stem == "exactness":
        data["rows"] = [r for r in data["rows"] if r["policy"] != "ours, one in flight"]
    (to / path.name).write_text(json.dumps(data))' "$work/docs/evaluation" "$work/older/evaluation"
check "... give a page" python3 tools/evaluate/evaluate.py --report --out "$work/older"
check "... with all series" test "$(grep -c '^## [1-5]' "$work/older/evaluation.md"):$(grep -c '^Not measured' "$work/older/evaluation.md")" = 5:0
check "... that says which plan full is" grep -q '^`full` is the default plan here' "$work/older/evaluation.md"
check "bars of made-up cells" python '
from report import Bars, ablation, planner
def row(name, seconds, **more):
    plan = {"predicted_s": seconds, "bound_s": seconds, "cpu_only_s": 4.0, "programs": 1, "bytes": 1, "host_limit": more.pop("limit", None)}
    figures = {"busy": 1, "launches": 1, "parts": 1, "padding": 0, "overflow": 0, "dropped": 0, "device_share": 50, **more}
    return {"row": name, "added_us": 150, "tokens": 4, "by_plan_tokens": 4, "times_s": [seconds], "host_cpu_s": 1.0, "plan": plan, **figures}
def plain(name, seconds):
    return {"row": name, "added_us": None, "tokens": 4, "times_s": [seconds], "host_cpu_s": seconds}
def cell(chunk, *rows):
    rows = [plain("cpu-only", 4.0), plain("all cores", 1.0), row("naive", 3.2), row("ladder", 3.0), *rows]  # no loss: 1.33 s
    return {"model": "m", "prompt": 8, "chunk": chunk, "latencies": [150], "budget": [], "date": "now", "commit": "c", "rows": rows}
data = {"machine": {"date": "now", "commit": "c", "cpu": "x", "cpus": 2, "os": "o", "compiler": "g", "best": "b"}, "host_isa": "h",
        "models": {"m": {"title": "M", "type": "T"}}, "cells": [
            cell(2, row("ladder-wavefront", 1.5), row("full", 1.6, device_share=0, limit=0.28), row("quickest", 1.5, device_share=0)),
            cell(4, row("ladder-wavefront", 1.5), row("full", 1.2, padding=10, limit=0.28), row("quickest", 1.0))]}
bars = Bars()
text = "\n".join(ablation(data, bars) + planner(data, bars))
table = bars.table()
def found(*words):
    assert any(all(w in line for w in words) for line in table.split("\n")), (words, table)
found("2.5x faster than naive", "2.00x least", "1 of 2", "m, 8/2, +150 us: even *no loss* would be only 2.40x", "| **not met** |")
# Once more for 1.3x of ladder-wavefront: not where a bar is met, nor where full is quicker than no loss.
assert table.count("even *no loss*") == 2 and "m, 8/2, +150 us: even *no loss* would be only 1.12x" in table, table
found("slower than ladder (which has one chunk", "1.88x least", "2 of 2", "| met |")
found("ladder-wavefront", "0.94x least", "1 of 2", "for comparison: **not met**")
found("padding of full", "10.0 % of 1;", "1 more have no expert on the device")
found("behind the best other policy", "6.67 % most (m, 8/2, +150 us)", "| **not met** |")
found("not the default plan", "in 2 of 2 columns", "(`quickest`): 2.67x to 4.00x", "2x in 2 of 2", "at most 1/3 in 2 of 2")
assert "In 1 of 2 columns `full` has **no expert on the device**: m, 8/2, +150 us" in text, text
assert "111 % most (m, 8/4, +150 us). More than 100 %" in text, text'
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
