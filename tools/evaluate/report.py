"""docs/evaluation.md from the raw figures: tables, and every bar with what was measured, met or not."""
import json

from ablation import ALL_CORES, GRID, PLANNED, ROWS, SPECIAL, cell_name
from work import median

HEAD = """# Evaluation

Written by `make evaluate` (tools/evaluate) from the raw figures in [{page}/]({page}/): do not edit. What is
measured and why: [plan.md](plan.md), [device.md](device.md).

**The device is not an NPU.** It is `tile`: one core of the CPU behind a queue, as a static matrix engine, with its
best kernels. The host is another core, restricted to lesser ones, as a CPU beside an NPU is: without the matrix unit,
or, where there is none, of half the width. So times say what planning is worth between two such units; they do not
say what an NPU would do. "+150 us" is latency added to each launch, about what an Apple Neural Engine takes.
"""


class Bars:
    """What was asked for and what was found."""

    def __init__(self):
        self.rows = []

    def add(self, series, text, found, met):
        self.rows.append((series, text, found, met))

    def table(self):
        lines = ["| series | bar | found | |", "|---|---|---|---|"]
        for series, text, found, met in self.rows:
            lines.append(f"| {series} | {text} | {found} | {'met' if met else '**not met**'} |")
        return "\n".join(lines)


def load(folder, page, name):
    path = folder / page / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head, rows, align=None):
    align = align or ["---"] + ["---:"] * (len(head) - 1)
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(align) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def ms(seconds):
    return "" if seconds is None else f"{1000 * seconds:.0f}"


def stamp(data):
    m = data["machine"]
    return (f"{m['date']}, commit {m['commit']}, {m['cpu']}, {m['cpus']} CPUs, {m['os']}, {m['compiler']}. "
            f"Host: 1 thread, `{data['host_isa']}`. Device: 1 thread, `{m['best']}`."
            + (f" **{m['note']}**" if "note" in m else ""))


# ---- series 1 --------------------------------------------------------------------------------

def exactness(data, bars):
    rows, parted = [], []
    base = data["cpu_accuracy"]
    for r in data["rows"]:
        if not r["texts"]:
            rows.append([r["policy"], "nothing on the device"] + [""] * 8)
        for title, v in r["texts"].items():
            c, p = v["compared"], v["plan"]
            lost = p["dropped"] + p["rerouted"]
            change = 100 * (c["perplexity"]["other"] / c["perplexity"]["base"] - 1)
            a = r.get("accuracy") if title == "tales" else None
            rows.append([r["policy"], title, c["positions"], f"{c['kl']['mean']:.1e}", f"{c['kl']['max']:.1e}",
                         f"{100 * c['top1']['same_share']:.2f}", f"{100 * lost / max(1, p['pairs']):.2f}",
                         f"{change:+.3f}", accuracy_change(a, base, "top1"), accuracy_change(a, base, "cloze")])
            g = v.get("greedy")
            if g:
                parted.append((r["policy"], g))
    text = [f"Demo model, chunks of {data['chunk']}, windows of {data['window']} tokens. {stamp(data)}", "",
            table(["policy", "text", "positions", "KL mean", "KL max", "same first choice %", "lost or moved %",
                   "perplexity %", "next token, points", "last word, points"], rows, ["---", "---"] + ["---:"] * 8), "",
            "Base: the CPU path with the host's kernels. Accuracy is the share of right first choices, in points against the "
            f"CPU's {100 * base['top1']:.2f} % of {base['tokens']} next tokens and {100 * base['cloze']:.2f} % of "
            f"{base['cloze_words']} last words of sentences, in stories that the model has not read."]
    for policy, g in parted:
        text += ["", f"Answers by {policy}: {g['equal']} of {g['prompts']} of {g['tokens']} tokens are equal, "
                     f"{g['part_at_near_ties']} part at a near tie, {g['part_elsewhere']} elsewhere (noise "
                     f"{g['noise']:.2e})."]
        if g["differences"]:
            text += ["", table(["prompt", "equal tokens", "top-2 gap", "near tie"],
                               [[d["prompt"], d["same_tokens"], f"{d['gap']:.2e}", "yes" if d["near_tie"] else "**no**"]
                                for d in g["differences"]])]
    exact_bars(data, parted, bars)
    return text


def accuracy_change(a, base, key):
    return f"{100 * (a[key] - base[key]):+.2f}" if a else ""


def exact_bars(data, parted, bars):
    exact = [v for r in data["rows"] if not r["lossy"] for v in r["texts"].values()]
    worst = max(v["compared"]["kl"]["mean"] for v in exact)
    bars.add(1, "KL < 1e-4, mean, exact policies", f"{worst:.1e} at most", worst < 1e-4)
    least = min(v["compared"]["top1"]["same_share"] for v in exact)
    bars.add(1, "same first choice > 99.5 %", f"{100 * least:.2f} % at least", least > 0.995)
    lost = sum(v["plan"]["dropped"] + v["plan"]["rerouted"] for v in exact)
    bars.add(1, "no pair dropped by exact policies", f"{lost} of {sum(v['plan']['pairs'] for v in exact)}", lost == 0)
    if parted:
        other = sum(g["part_elsewhere"] for _, g in parted)
        total = sum(g["prompts"] for _, g in parted)
        bars.add(1, "answers equal, or part at near ties", f"{total - other} of {total}", other == 0)


# ---- series 2 --------------------------------------------------------------------------------

def find(cell, row, added=None):
    for r in cell["rows"]:
        if r["row"] == row and (r["added_us"] == added or row in ("cpu-only", ALL_CORES)):
            return r
    return None


def title_of(data, cell):
    m = data["models"][cell["model"]]
    layers = f", {m['layers']} of {m['of']} layers" if "layers" in m and m["layers"] != m["of"] else ""
    budget = ", 120 programs and 3.5 GB" if cell["budget"] else ""
    return f"{m['title']}{layers}, {m['type']}: prompt of {cell['prompt']}, chunks of {cell['chunk']}{budget}"


def ablation(data, bars):
    text = [stamp(data), "", "Milliseconds for the prompt: the least time of runs that take turns until the second least is at most 3 % above "
            "it (three runs at least; two of naive, where it takes over 10 s), or the rounds are over; in brackets by how many percent it is. `base` to `full` add one step each; rows are described in "
            "[tools/evaluate](../tools/evaluate/README.md). *All cores*: what this machine does with all its cores, "
            "their best kernels and no device. *No loss*: if the host's core as in cpu-only and a core as in all cores shared the work "
            "and neither ever waited, padded or gathered; no plan can be expected to reach it. *c*: no chunk went by the plan, "
            "which expects to be slower than the CPU."]
    names, wanted = [cell_name(c) for c in data["cells"]], [cell_name(c) for c in GRID + SPECIAL]
    missing = [name for name in wanted if name not in names]
    if missing and len(missing) < len(wanted):
        text += ["", f"{len(names)} of {len(wanted)} cells; not measured (model-prompt-chunk): {', '.join(missing)}."]
    for group in grouped(data["cells"]):
        text += ["", f"### {title_of(data, group[0]).split(', chunks')[0]}" + (
            ", 120 programs and 3.5 GB" if group[0]["budget"] else ""), "", measured(group), "", overview(group, data["machine"]["cpus"])]
    text += ["", "### In detail", ""] + details(data)
    shares = over_cells(data["cells"], lambda c, x: no_loss(c, data["machine"]["cpus"]) / least(find(c, "full", x)))
    worst = min(shares, key=lambda x: x[0])
    text += [f"`full` reaches {100 * median([x[0] for x in shares]):.0f} % of *no loss*, median; {100 * worst[0]:.0f} % least "
             f"({where(worst)})."]
    text += quickest(data["cells"])
    ablation_bars(data, bars)
    return text


def measured(cells):
    """When and from what the cells of a table come."""
    stamps = sorted({(c["date"], c["commit"], c.get("warm", False)) for c in cells})
    return "Begun " + ", ".join(f"{date} (commit {commit}{'' if warm else '; memory not touched beforehand'})"
                                for date, commit, warm in stamps) + "."


def grouped(cells):
    groups = {}
    for c in cells:
        groups.setdefault((c["model"], c["prompt"], bool(c["budget"])), []).append(c)
    return groups.values()


def least(row):
    return min(row["times_s"])


def time_of(row):
    if row is None:
        return ""
    t = sorted(row["times_s"])
    spread = f" ({100 * (t[1] / t[0] - 1):.0f})" if len(t) > 1 else ""
    way = " c" if row.get("by_plan_tokens") == 0 else ""
    return f"{ms(least(row))}{way}{spread}"


def no_loss(cell, cpus):
    """Seconds of one core as in cpu-only and one as in all cores, if they shared a prompt without any loss."""
    cpu, every = find(cell, "cpu-only"), find(cell, ALL_CORES)
    return 1 / (1 / least(cpu) + 1 / (int(cpus) * least(every)))


def overview(group, cpus):
    columns = [(c, latency) for c in group for latency in c["latencies"]]
    head = ["row"] + [f"{c['chunk']}" + (f" +{latency} us" if latency else "") for c, latency in columns]
    rows = [[row] + [time_of(find(c, row, latency)) for c, latency in columns] for row in [*ROWS, ALL_CORES]
            if any(find(c, row, latency) for c, latency in columns)]
    rows.append(["no loss"] + [ms(no_loss(c, cpus)) for c, _ in columns])
    return table(head, rows)


def details(data):
    """One table for each model: the chunk size in the middle, with and without latency."""
    text = []
    for cell in data["cells"]:
        if cell["chunk"] != 512 and len(data["cells"]) > 1:
            continue
        for latency in cell["latencies"]:
            rows = [detail(cell, row, latency) for row in ROWS if find(cell, row, latency)]
            text += [f"{title_of(data, cell)}" + (f", +{latency} us" if latency else ""), "",
                     table(["row", "ms", "host CPU s", "device busy s", "launches", "padding %", "overflow %", "lost pairs",
                            "on device %", "programs", "MiB", "predicted ms"], rows), ""]
    return text


def quickest(cells):
    """What the limit of host time costs, and gives, where both were measured."""
    def ratios(of):
        return [of(find(c, "full", x), find(c, "quickest", x)) for c in cells for x in c["latencies"] if find(c, "quickest", x)]
    times = ratios(lambda full, free: least(full) / least(free) - 1)
    if not times:
        return []
    host = ratios(lambda full, free: full["host_cpu_s"] / free["host_cpu_s"] - 1)
    return ["", f"`full` is the quickest plan that is predicted to take at most 28 % of the host's CPU time; `quickest` is without that limit. With "
            f"it a prompt takes {100 * median(times):+.1f} % of time, median ({100 * max(times):+.1f} % most), and "
            f"{100 * median(host):+.1f} % of the host's ({100 * min(host):+.1f} % least)."]


def detail(cell, row, latency):
    r = find(cell, row, latency)
    if "plan" not in r:
        return [row, ms(least(r)), f"{host_seconds(r):.2f}", "", "", "", "", "", "", "", "", ms(cpu_predicted(cell))]
    p = r["plan"]
    return [row, ms(least(r)), f"{host_seconds(r):.2f}", f"{r['busy']:.2f}", f"{r['launches'] + r['parts']:.0f}",
            f"{r['padding']:.1f}", f"{r['overflow']:.1f}", f"{r['dropped']:.0f}", f"{r['device_share']:.0f}", p["programs"],
            f"{p['bytes'] / 2**20:.0f}", ms(p["predicted_s"])]


def cpu_predicted(cell):
    for r in cell["rows"]:
        if "plan" in r:
            return r["plan"]["cpu_only_s"]
    return None


def host_seconds(row):
    """Of the CPU path, a whole process was measured, loading and tokenizing too, but it has one thread."""
    return row["host_cpu_s"] if "plan" in row else min(row["host_cpu_s"], least(row))


def over_cells(cells, ratio):
    """Ratios of all cells and latencies."""
    out = []
    for c in cells:
        for latency in c["latencies"]:
            r = ratio(c, latency)
            if r is not None:
                out.append((r, c, latency))
    return out


def against(row):
    def ratio(cell, latency):
        other, full = find(cell, row, latency), find(cell, "full", latency)
        return least(other) / least(full) if other and full else None
    return ratio


def bar_least(bars, series, text, ratios, bar, beyond):
    """`beyond` of a cell and a latency: what the ratio would be without any loss; where a bar is above that, nothing
    can meet it, which is said."""
    if not ratios:
        return
    values = [r for r, _, _ in ratios]
    worst = min(ratios, key=lambda x: x[0])
    good = sum(v >= bar for v in values)
    found = f"{worst[0]:.2f}x least ({where(worst)}), median {median(values):.2f}x; {good} of {len(values)}"
    for ratio, cell, latency in ratios:
        if ratio < bar and beyond(cell, latency) < bar:
            found += f"; {where((ratio, cell, latency))}: *no loss* would be {beyond(cell, latency):.2f}x"
    bars.add(series, text, found, good == len(values))


def bar_most(bars, series, text, ratios, most, unit="", scale=1):
    if not ratios:
        return
    values = [r for r, _, _ in ratios]
    worst = max(ratios, key=lambda x: x[0])
    good = sum(v <= most for v in values)
    bars.add(series, text, f"{scale * worst[0]:.3g}{unit} most ({where(worst)}), median {scale * median(values):.3g}{unit}; "
                           f"{good} of {len(values)}", good == len(values))


def where(found):
    _, cell, latency = found
    return f"{cell['model']}, {cell['prompt']}/{cell['chunk']}" + (f", +{latency} us" if latency else "") + (
        ", small budget" if cell["budget"] else "")


def ablation_bars(data, bars):
    cells, cpus = data["cells"], data["machine"]["cpus"]

    def bar_over(row, text, bar, wanted=lambda latency: True):
        ratios = [x for x in over_cells(cells, against(row)) if wanted(x[2])]
        bar_least(bars, 2, text, ratios, bar, lambda c, x: least(find(c, row, x)) / no_loss(c, cpus))
    bar_over("ladder", "full never slower than ladder", 1.0)
    bar_over("ladder", "full 1.3x faster than ladder with added latency", 1.3, lambda latency: latency > 0)
    bar_over("naive", "full 2.5x faster than naive", 2.5)
    bar_over("cpu-only", "full 2x faster than cpu-only on one core", 2.0)
    bar_most(bars, 2, "host CPU seconds at most 1/3 of cpu-only's", over_cells(
        cells, lambda c, x: find(c, "full", x)["host_cpu_s"] / host_seconds(find(c, "cpu-only"))), 1 / 3)
    padding = over_cells(cells, lambda c, x: find(c, "full", x)["padding"])
    mean, worst = sum(x[0] for x in padding) / len(padding), max(padding, key=lambda x: x[0])
    bars.add(2, "padding of full at most 20 %, mean of all", f"{mean:.1f} %; {worst[0]:.1f} % most ({where(worst)})", mean <= 20)
    dropped = sum(r["dropped"] for c in cells for r in c["rows"] if r["row"] == "full")
    bars.add(2, "nothing dropped by full", f"{dropped:.0f} pairs", dropped == 0)


# ---- series 3 --------------------------------------------------------------------------------

def errors_of(cells, rows):
    """(predicted / measured - 1, cell, latency, row) of all runs that went by plan."""
    out = []
    for c in cells:
        for r in c["rows"]:
            if "plan" in r and r["row"] in rows and r.get("by_plan_tokens", 0) > 0.9 * r["tokens"]:
                out.append((r["plan"]["predicted_s"] / least(r) - 1, c, r["added_us"], r["row"]))
    return out


def planner(data, bars):
    cells = data["cells"]
    rows = []
    for name in PLANNED:
        errors = errors_of(cells, [name])
        if errors:
            sizes = [abs(e[0]) for e in errors]
            worst = max(errors, key=lambda e: abs(e[0]))
            rows.append([name, len(errors), f"{100 * median([e[0] for e in errors]):+.1f}", f"{100 * median(sizes):.1f}",
                         f"{100 * worst[0]:+.1f}", where(worst[:3])])
    every = errors_of(cells, PLANNED)
    text = ["Predicted against measured time of a prompt, in percent: negative where it took longer than predicted.", "",
            table(["row", "runs", "median", "median of sizes", "worst", "where"], rows, ["---"] + ["---:"] * 4 + ["---"])]
    if every:
        sizes = [abs(e[0]) for e in every]
        bars.add(3, "predicted within 15 %, median", f"{100 * median(sizes):.1f} %", median(sizes) <= 0.15)
        worst = max(every, key=lambda e: abs(e[0]))
        bars.add(3, "predicted within 30 %, worst", f"{100 * worst[0]:+.1f} % ({worst[3]}, {where(worst[:3])}); "
                 f"{sum(s <= 0.3 for s in sizes)} of {len(sizes)}", max(sizes) <= 0.3)
    others = ("naive", "ladder", "paper", "cpu-only")

    def behind(cell, latency):
        best = min(least(find(cell, o, latency)) for o in others if find(cell, o, latency))
        return least(find(cell, "full", latency)) / best - 1
    bar_most(bars, 3, "full at most 3 % behind the best other policy", over_cells(cells, behind), 0.03, " %", 100)
    free = {id(c): "quickest" if find(c, "quickest", c["latencies"][0]) else "full" for c in cells}
    gaps = [r["plan"]["predicted_s"] / r["plan"]["bound_s"] - 1 for c in cells for r in c["rows"]
            if r["row"] == free[id(c)] and r["plan"]["bound_s"] > 0]
    text += ["", f"The quickest plans (`quickest`; `full` where that was not measured, which then had no limit of host time) are predicted {100 * median(gaps):.1f} % above their lower bound, median; "
             f"{100 * max(gaps):.1f} % at most."]
    return text


# ---- series 4, 5 -----------------------------------------------------------------------------

def drift(data, bars):
    text = [stamp(data), "", "Plans made from tales, and one from the same profile with its experts in reverse order, so that "
            "tokens go where it expects the fewest. *All to the idlest*: every token is routed to the experts that were "
            "idlest in calibration. Times as in series 2; what a plan leaves to the CPU is as in daily use."]
    ratios = []
    for run in data["timed"]:
        rows = []
        for r in run["rows"]:
            base = next(x for x in run["rows"] if x["text"] == r["text"] and x["way"] == "cpu-only")
            ratio = least(r) / least(base)
            if r["way"] != "cpu-only":
                ratios.append((ratio - 1, f"{run['model']}, {r['text']}, {r['way']}"))
            rows.append([r["text"], r["way"], time_of(r), f"{ratio:.2f}", r.get("by_plan_tokens", ""), r.get("padding", ""),
                         r.get("overflow", ""), r.get("dropped", "")])
        text += ["", f"### {run['model']}, prompt of {run['prompt']}", "",
                 table(["text", "way", "ms", "of cpu-only", "tokens by plan", "padding %", "overflow %", "dropped"], rows,
                       ["---", "---"] + ["---:"] * 6)]
    exact = [[t, v["compared"]["positions"], f"{v['compared']['perplexity']['base']:.1f}", f"{v['compared']['kl']['mean']:.1e}",
              f"{v['compared']['kl']['p99']:.1e}", f"{v['compared']['kl']['max']:.1e}",
              f"{100 * v['compared']['top1']['same_share']:.2f}", f"{v['host_against_fp32']:.1e}" if "host_against_fp32" in v else "",
              v["plan"]["dropped"]] for t, v in data["exact"].items()]
    text += ["", "### Exactness, demo model", "", table(["text", "positions", "perplexity", "KL mean", "KL P99", "KL max", "same first choice %",
                                                           "KL of the host's arithmetic from fp32", "dropped"], exact), "",
             "The model has read tales only; source code is noise to it. Means come from a few positions, as the largest "
             "beside the 99th percentile shows: the device rounds otherwise than the host, which sends a token at a near "
             "tie of its router to another expert."]
    worst = max(ratios)
    bars.add(4, "never slower than cpu-only by more than 10 %", f"{100 * worst[0]:+.0f} % ({worst[1]})", worst[0] <= 0.1)
    kl = max(v["compared"]["kl"]["mean"] for v in data["exact"].values())
    lost = sum(v["plan"]["dropped"] for v in data["exact"].values())
    bars.add(4, "still exact: KL < 1e-4, nothing dropped", f"{kl:.1e} at most, {lost} dropped", kl < 1e-4 and lost == 0)
    return text


def bad_input(data, bars):
    rows = [[r["case"], r["expected"] if r["expected"] != "either" else "refused or finished", r["code"],
             "`" + r["message"].replace("|", "/")[:150] + "`", "yes" if r["ok"] else "**no**"] for r in data["rows"]]
    good = sum(r["ok"] for r in data["rows"])
    bars.add(5, "refused with a message, or finished with the same answer", f"{good} of {len(data['rows'])}",
             good == len(data["rows"]))
    text = ["`finished`: exit code 0 and the answer, byte for byte, that the CPU alone gives. `refused`: exit code 1, a "
            "message, no answer.", "", table(["case", "expected", "exit code", "first message", "as expected"], rows,
                                             ["---", "---", "---:", "---", "---"])]
    f = data.get("flipped")
    if f:
        text += ["", f"Plans with one byte changed at random: {f['refused']} refused, {f['finished']} run with the same answer, "
                 f"{f['other']} anything else."]
        bars.add(5, "one byte of a plan changed: refused, or the same answer", f"{f['other']} of {sum(f.values())} otherwise",
                 f["other"] == 0)
    return text


def write(folder, page):
    bars, parts = Bars(), []
    for name, title, make in (("exactness", "1. Exactness", exactness), ("ablation", "2. Ablation", ablation),
                              ("ablation", "3. The planner against its bound", planner), ("drift", "4. Drift", drift),
                              ("bad-input", "5. Bad input", bad_input)):
        data = load(folder, page, name)
        parts += ["", f"## {title}", ""] + (make(data, bars) if data else ["Not measured."])
    text = "\n".join([HEAD.replace("{page}", page), "## Bars", "", bars.table(), *parts]) + "\n"
    (folder / f"{page}.md").write_text(text)
