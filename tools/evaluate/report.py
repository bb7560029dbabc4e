"""docs/evaluation.md from the raw figures: tables, and every bar with what was measured, met or not."""
import json

from ablation import ALL_CORES, GRID, PLANNED, ROWS, SPECIAL, cell_name
from work import median

FULL_LIMIT = ROWS["full"][ROWS["full"].index("--host-cpu") + 1]  # percent

HEAD = """# Evaluation

Written by `make evaluate` (tools/evaluate) from the raw figures in [{page}/]({page}/): do not edit. What is
measured and why: [plan.md](plan.md), [device.md](device.md).

**The device is not an NPU.** It is `tile`: one core of the CPU behind a queue, as a static matrix engine, with its
best kernels. The host is another core, restricted to lesser ones, as a CPU beside an NPU is: without the matrix unit,
or, where there is none, of half the width. So times say what planning is worth between two such units; they do not
say what an NPU would do. "+150 us" is latency added to each launch, about what an Apple Neural Engine takes.
"""


class Bars:
    """What was asked for and what was found; what was not asked for, but has to be known beside it; and notes."""

    def __init__(self):
        self.rows, self.notes = [], []

    def add(self, series, text, found, met, asked=True):
        self.rows.append((series, text, found, ("" if asked else "for comparison: ") + ("met" if met else "**not met**")))

    def note(self, text):
        self.notes.append(text)

    def table(self):
        lines = ["| series | bar | found | |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in self.rows]
        return "\n".join(lines + [line for note in self.notes for line in ("", note)])


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
        alone = "one in flight" in r["policy"] and r["plan"].get("shared_rows") == {}
        name = r["policy"] + (" (**shares no rows**)" if alone else "")
        if not r["texts"]:
            rows.append([name, "nothing on the device"] + [""] * 9)
        for title, v in r["texts"].items():
            c, p = v["compared"], v["plan"]
            lost = p["dropped"] + p["rerouted"]
            change = 100 * (c["perplexity"]["other"] / c["perplexity"]["base"] - 1)
            a = r.get("accuracy") if title == "tales" else None
            rows.append([name, title, c["positions"], f"{c['kl']['mean']:.1e}", f"{c['kl']['max']:.1e}",
                         f"{100 * c['top1']['same_share']:.2f}", f"{100 * p['device_rows'] / max(1, p['pairs']):.0f}", f"{100 * lost / max(1, p['pairs']):.2f}",
                         f"{change:+.3f}", accuracy_change(a, base, "top1"), accuracy_change(a, base, "cloze")])
            g = v.get("greedy")
            if g:
                parted.append((r["policy"], g))
    text = [f"Demo model, chunks of {data['chunk']}, windows of {data['window']} tokens. {stamp(data)}", "",
            table(["policy", "text", "positions", "KL mean", "KL max", "same first choice %", "pairs on device %",
                   "lost or moved %", "perplexity %", "next token, points", "last word, points"], rows, ["---", "---"] + ["---:"] * 9), "",
            "Pairs: of a token and an expert; attention, QKV and O are not counted. Base: the CPU path with the host's kernels. "
            "Accuracy is the share of right first choices, in points against the "
            f"CPU's {100 * base['top1']:.2f} % of {base['tokens']} next tokens and {100 * base['cloze']:.2f} % of "
            f"{base['cloze_words']} last words of sentences, in stories that the model has not read."]
    text += [line for r in data["rows"] for line in shared(r["policy"], r["plan"])]
    for policy, g in parted:
        text += ["", f"Answers by {policy}: {g['equal']} of {g['prompts']} of {g['tokens']} tokens are equal, "
                     f"{g['part_at_near_ties']} part at a near tie, {g['part_elsewhere']} elsewhere. Prompts, of {g['prompt_tokens']} tokens, go by the "
                     f"plan; the CPU writes the answers. A near tie is a gap below {g['noise']:.2e}, {of_noise(g)}."]
        if g["differences"]:
            text += ["", table(["prompt", "equal tokens", "top-2 gap", "near tie"],
                               [[d["prompt"], d["same_tokens"], f"{d['gap']:.2e}", "yes" if d["near_tie"] else "**no**"]
                                for d in g["differences"]])]
    exact_bars(data, parted, bars)
    return text


def shared(what, plan):
    """That a plan shares parts by rows, and how many."""
    parts = plan.get("shared_rows")
    if not parts:
        return []
    said = [f"of {part.upper()} in {len(rows)} of {plan['layers']} layers the first {min(rows)}"
            + (f" to {max(rows)}" if max(rows) > min(rows) else "") + " rows of a chunk" for part, rows in parts.items()]
    return ["", f"{what[0].upper()}{what[1:]}: by its plan the device computes " + ", ".join(said) + ", the host the others."]


def of_noise(greedy):
    if "noise_share" not in greedy:
        return "the largest difference of any logit of the text"
    return f"which the largest difference of a position's logits does not pass at {100 * greedy['noise_share']:.0f} % of the positions"


def accuracy_change(a, base, key):
    return f"{100 * (a[key] - base[key]):+.2f}" if a else ""


def exact_bars(data, parted, bars):
    exact = [v for r in data["rows"] if not r["lossy"] for v in r["texts"].values()]
    worst = max(v["compared"]["kl"]["mean"] for v in exact)
    bars.add(1, "KL < 1e-4, mean, exact policies", f"{worst:.1e} at most", worst < 1e-4)
    least = min(v["compared"]["top1"]["same_share"] for v in exact)
    bars.add(1, "same first choice > 99.5 %", f"{100 * least:.2f} % at least", least > 0.995)
    lost = sum(v["plan"]["dropped"] + v["plan"]["rerouted"] for v in exact)
    idle = sorted({r["policy"] for r in data["rows"] if not r["lossy"] for v in r["texts"].values() if v["plan"]["device_rows"] == 0})
    bars.add(1, "no pair dropped by exact policies", f"{lost} of {sum(v['plan']['pairs'] for v in exact)}, of which the device had "
             f"{sum(v['plan']['device_rows'] for v in exact)}" + (f"; none of {'; '.join(idle)}" if idle else ""), lost == 0)
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
    commits = {c["commit"] for c in data["cells"]}
    text = [stamp(data) + (f" Cells are from {len(commits)} commits (see each table)." if len(commits) > 1 else ""), "",
            "Milliseconds for the prompt: the least time of runs that take turns until the second least is at most 3 % above "
            "it (three runs at least; two of naive, where it takes over 10 s), or the rounds are over; in brackets by how many percent it is. "
            "`base` to `+residency` add one step each; `full` adds all the rest at once: several capacities of a group, "
            "attention and dense parts on the device, several chunks in flight, and the limit of host time. Rows are described in "
            "[tools/evaluate](../tools/evaluate/README.md). Padding, overflow and *on device* count pairs of a token and an expert; dense "
            "parts are not in them. *All cores*: what this machine does with all its cores, "
            "their best kernels and no device. *No loss*: if the host's core as in cpu-only and a core as in all cores shared the work "
            "and neither ever waited, padded or gathered; an estimate from two measured times, which no plan is expected to reach. *c*: no chunk went by the plan, "
            "which expects to be slower than the CPU."]
    text += not_measured(data["cells"])
    for group in grouped(data["cells"]):
        text += ["", f"### {title_of(data, group[0]).split(', chunks')[0]}" + (
            ", 120 programs and 3.5 GB" if group[0]["budget"] else ""), "", measured(group), "", overview(group, data["machine"]["cpus"])]
    text += ["", "### In detail: chunks of 512", "", "Figures of the quickest run. Launches: of groups and of dense parts.", ""] + details(data)
    shares = over_cells(data["cells"], lambda c, x: no_loss(c, data["machine"]["cpus"]) / least(find(c, "full", x)))
    worst = min(shares, key=lambda x: x[0])
    best = max(shares, key=lambda x: x[0])
    text += [f"`full` reaches {100 * median([x[0] for x in shares]):.0f} % of *no loss*, median; {100 * worst[0]:.0f} % least "
             f"({where(worst)}), {100 * best[0]:.0f} % most ({where(best)})."
             + (" More than 100 % says how good the estimate is: its two times are from other moments, and a core that works alone may be "
                "quicker than one of several." if best[0] > 1 else "")]
    for row in ("full", "quickest"):
        text += without_experts(data["cells"], row)
    text += quickest(data["cells"])
    ablation_bars(data, bars)
    return text


def without_experts(cells, row):
    """Where a row has nothing of the experts on the device."""
    shares = [x for x in over_cells(cells, lambda c, x: (find(c, row, x) or {}).get("device_share"))]
    none = [x for x in shares if x[0] == 0]
    if not none:
        return []
    return ["", f"In {len(none)} of {len(shares)} columns `{row}` has **no expert on the device**: {'; '.join(where(x) for x in none)}. There it "
            "computes attention, QKV or O; padding and overflow are 0 because there are no rows."]


def not_measured(cells):
    """What of the grid is not there: cells, and columns of those that are."""
    have, wanted = {cell_name(c): c["latencies"] for c in cells}, {cell_name(c): c["latencies"] for c in GRID + SPECIAL}
    missing = [name for name in wanted if name not in have]
    if len(missing) == len(wanted):
        return []  # a smoke test
    missing += [f"{name} with {latency} us added" for name in wanted if name in have for latency in wanted[name]
                if latency not in have[name]]
    return ["", f"{len(have)} of {len(wanted)} cells; not measured (model-prompt-chunk): {', '.join(missing)}."] if missing else []


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
                            "on device %", "in flight", "programs", "MiB", "predicted ms"], rows), ""]
    return text


def quickest(cells):
    """What the limit of host time costs, and gives, where both were measured."""
    def ratios(of):
        return [of(find(c, "full", x), find(c, "quickest", x)) for c in cells for x in c["latencies"] if find(c, "quickest", x)]
    times = ratios(lambda full, free: least(full) / least(free) - 1)
    if not times:
        return []
    host = ratios(lambda full, free: full["host_cpu_s"] / free["host_cpu_s"] - 1)
    return ["", f"`full` is the quickest plan that is predicted to take at most {FULL_LIMIT} % of the host's CPU time; `quickest` is without that limit. With "
            f"it a prompt takes {100 * median(times):+.1f} % of time, median ({100 * max(times):+.1f} % most), and "
            f"{100 * median(host):+.1f} % of the host's ({100 * min(host):+.1f} % least)."]


def detail(cell, row, latency):
    r = find(cell, row, latency)
    if "plan" not in r:
        return [row, ms(least(r)), f"{host_seconds(r):.2f}", "", "", "", "", "", "", "", "", "", ms(cpu_predicted(cell))]
    p = r["plan"]
    return [row, ms(least(r)), f"{host_seconds(r):.2f}", f"{r['busy']:.2f}", f"{r['launches'] + r['parts']:.0f}",
            f"{r['padding']:.1f}", f"{r['overflow']:.1f}", f"{r['dropped']:.0f}", f"{r['device_share']:.0f}", p.get("in_flight", ""), p["programs"],
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


def bar_least(bars, series, text, ratios, bar, beyond, asked=True):
    """`beyond` of a cell and a latency: what the ratio would be without any loss (no_loss()); where a bar that is not met is
    above that, no plan is expected to meet it, which is said (not where the plan has more itself: so much for the
    estimate). It is not met all the same."""
    if not ratios:
        return
    values = [r for r, _, _ in ratios]
    worst = min(ratios, key=lambda x: x[0])
    good = sum(v >= bar for v in values)
    found = f"{worst[0]:.2f}x least ({where(worst)}), median {median(values):.2f}x; {good} of {len(values)}"
    for ratio, cell, latency in ratios:
        if ratio < bar and ratio <= beyond(cell, latency) < bar:
            found += f"; {where((ratio, cell, latency))}: even *no loss* would be only {beyond(cell, latency):.2f}x"
    bars.add(series, text, found, good == len(values), asked)


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

    def bar_over(row, text, bar, wanted=lambda latency: True, asked=True):
        ratios = [x for x in over_cells(cells, against(row)) if wanted(x[2])]
        bar_least(bars, 2, text, ratios, bar, lambda c, x: least(find(c, row, x)) / no_loss(c, cpus), asked)
    fair = "the same against `ladder-wavefront`: ladder that may have as many chunks in flight as full"
    bar_over("ladder", "full never slower than ladder (which has one chunk in flight)", 1.0)
    bar_over("ladder-wavefront", fair, 1.0, asked=False)
    bar_over("ladder", "full 1.3x faster than ladder (one chunk in flight) with added latency", 1.3, lambda latency: latency > 0)
    bar_over("ladder-wavefront", fair, 1.3, lambda latency: latency > 0, asked=False)
    bar_over("naive", "full 2.5x faster than naive", 2.5)
    bar_over("cpu-only", "full 2x faster than cpu-only on one core", 2.0)
    bar_most(bars, 2, "host CPU seconds of full at most 1/3 of cpu-only's", over_cells(cells, lambda c, x: host_share(c, "full", x)), 1 / 3)
    bar_padding(cells, bars)
    dropped = sum(r["dropped"] for c in cells for r in c["rows"] if r["row"] == "full")
    bars.add(2, "nothing dropped by full", f"{dropped:.0f} pairs", dropped == 0)
    for note in (note_full(cells), note_others(cells)):
        bars.note(note)


def bar_padding(cells, bars):
    """The mean where there is anything to pad."""
    rows = over_cells(cells, lambda c, x: find(c, "full", x))
    padding = [(r["padding"], c, x) for r, c, x in rows if r["device_share"] > 0]
    if not padding:
        return
    mean, worst = sum(x[0] for x in padding) / len(padding), max(padding, key=lambda x: x[0])
    none = len(rows) - len(padding)
    bars.add(2, "padding of full at most 20 %, mean of all with experts on the device",
             f"{mean:.1f} % of {len(padding)}; {worst[0]:.1f} % most ({where(worst)})"
             + (f"; {none} more have no expert on the device, and so no padding" if none else ""), mean <= 20)


def has_limit(cell, latency):
    """Whether `full` was made with the limit of host time: cells from before there was one have no row `quickest`."""
    limit = find(cell, "full", latency)["plan"].get("host_limit", 0)
    return limit is not None and (limit > 0 or find(cell, "quickest", latency) is not None)


def host_share(cell, row, latency):
    return find(cell, row, latency)["host_cpu_s"] / host_seconds(find(cell, "cpu-only"))


def spread(values, digits, unit=""):
    return f"{min(values):.{digits}f}{unit} to {max(values):.{digits}f}{unit}, median {median(values):.{digits}f}{unit}"


def note_full(cells):
    """Under the bars: `full` is not what `npumoe plan` makes unless asked, and what that has."""
    columns = [(c, x) for c in cells for x in c["latencies"]]
    limited = sum(has_limit(c, x) for c, x in columns)
    both = [(c, x) for c, x in columns if find(c, "quickest", x)]
    if limited == 0:
        return "`full` is the default plan here: all of 2 was measured before the limit of host time with which it is made now."
    text = (f"**`full` is not the default plan.** It was made with `npumoe plan --host-cpu {FULL_LIMIT}`, at most {FULL_LIMIT} % of the host's CPU time by "
            f"prediction, in {limited} of {len(columns)} columns of the tables of 2" + (
                "; in the others, measured before there was such a limit, it is the default plan." if limited < len(columns) else "."))
    if not both:
        return text + " The default plan (row `quickest`) was not measured."

    lines = []
    for row, name in (("quickest", "The default plan (`quickest`)"), ("full", "`full` in the same columns")):
        speed = [least(find(c, "cpu-only")) / least(find(c, row, x)) for c, x in both]
        shares = [host_share(c, row, x) for c, x in both]
        lines.append(f"{name}: {spread(speed, 2, 'x')} as fast as cpu-only, 2x in {sum(s >= 2 for s in speed)} of {len(both)}; host CPU time "
                     f"{spread(shares, 3)} of cpu-only's, at most 1/3 in {sum(s <= 1 / 3 for s in shares)} of {len(both)}.")
    return " ".join([text, f"Both were measured in {len(both)} columns.", *lines])


def note_others(cells):
    """Under the bars: what the other policies have not."""
    single = [c for c in cells if c["chunk"] >= c["prompt"]]
    return ("`naive`, `ladder` and `paper` have one chunk in flight and no attention, QKV or O on the device; `full` may have several and all of "
            "these. What several chunks in flight alone are worth is the difference between `ladder` and `ladder-wavefront`; `naive` and `paper` with several were not measured."
            + (f" A prompt of one chunk ({', '.join(sorted({cell_name(c) for c in single}))}) has one in flight in all rows." if single else "")
            + " Columns with and without added latency count as two. *No loss*: see 2; an estimate, no bound.")


# ---- series 3 --------------------------------------------------------------------------------

def errors_of(cells, rows):
    """(predicted / measured - 1, cell, latency, row) of all runs that went by plan."""
    out = []
    for c in cells:
        for r in c["rows"]:
            if "plan" in r and r["row"] in rows and r.get("by_plan_tokens", 0) > 0.9 * r["tokens"]:
                out.append((r["plan"]["predicted_s"] / least(r) - 1, c, r["added_us"], r["row"]))
    return out


def errors_alone(cells):
    """What plans expect of the host alone, with the plan's chunks; what is measured has chunks of its own."""
    out = []
    for c in cells:
        full = find(c, "full", c["latencies"][0])
        if full and "cpu_only_s" in full.get("plan", {}):
            out.append((full["plan"]["cpu_only_s"] / least(find(c, "cpu-only", 0)) - 1, c, c["latencies"][0], "cpu-only"))
    return out


def planner(data, bars):
    cells = data["cells"]
    rows = []
    for name, errors in [(name, errors_of(cells, [name])) for name in PLANNED] + [("cpu-only, as full's plan expects it", errors_alone(cells))]:
        if errors:
            sizes = [abs(e[0]) for e in errors]
            worst = max(errors, key=lambda e: abs(e[0]))
            rows.append([name, len(errors), f"{100 * median([e[0] for e in errors]):+.1f}", f"{100 * median(sizes):.1f}",
                         f"{100 * worst[0]:+.1f}", where(worst[:3])])
    every = errors_of(cells, PLANNED)
    left_out = sum("plan" in r and r["row"] in PLANNED for c in cells for r in c["rows"]) - len(every)
    text = ["Predicted against measured time of a prompt (the least), in percent: negative where it took longer than predicted."
            + (f" Left out: {left_out} runs of which a tenth or more did not go by the plan." if left_out else ""), "",
            table(["row", "runs", "median", "median of sizes", "worst", "where"], rows, ["---"] + ["---:"] * 4 + ["---"]), "",
            "Cpu-only is measured with the host's own chunks of 2048 tokens, which share more decoding of weights than the plan's that a plan reckons with: so plans "
            "promise a greater gain over the host alone than they keep. It is in no bar."]
    if every:
        sizes = [abs(e[0]) for e in every]
        bars.add(3, "predicted within 15 %, median", f"{100 * median(sizes):.1f} %", median(sizes) <= 0.15)
        worst = max(every, key=lambda e: abs(e[0]))
        bars.add(3, "predicted within 30 %, worst", f"{100 * worst[0]:+.1f} % ({worst[3]}, {where(worst[:3])}); "
                 f"{sum(s <= 0.3 for s in sizes)} of {len(sizes)}", max(sizes) <= 0.3)
    others = ("naive", "ladder", "ladder-wavefront", "paper", "cpu-only")

    def behind(cell, latency):
        best = min(least(find(cell, o, latency)) for o in others if find(cell, o, latency))
        return least(find(cell, "full", latency)) / best - 1
    bar_most(bars, 3, "full at most 3 % behind the best other policy, `ladder-wavefront` included (negative: ahead)", over_cells(cells, behind), 0.03, " %", 100)
    free = {id(c): "quickest" if find(c, "quickest", c["latencies"][0]) else "full" for c in cells}
    gaps = [r["plan"]["predicted_s"] / r["plan"]["bound_s"] - 1 for c in cells for r in c["rows"]
            if r["row"] == free[id(c)] and r["plan"]["bound_s"] > 0]
    text += ["", f"The quickest plans (`quickest`; `full` where that was not measured, which then had no limit of host time) are predicted {100 * median(gaps):.1f} % above their lower bound, median; "
             f"{100 * max(gaps):.1f} % at most."]
    return text


# ---- series 4, 5 -----------------------------------------------------------------------------

def drift(data, bars):
    text = [stamp(data), "", "Default plans (`quickest` of 2) made from tales, and one from the same profile with its experts in reverse order, so that "
            "tokens go where it expects the fewest. *All to the idlest*: every token is routed to the experts that were "
            "idlest in calibration, which a plan may have left to the host: then the device computes attention, QKV and O, and no pair. *All to the "
            "busiest*: to those that were busiest, beyond the capacities of their programs. Times as in series 2; what a plan leaves to the CPU is "
            "as in daily use."]
    ratios = []
    for run in data["timed"]:
        rows = []
        for r in run["rows"]:
            base = next(x for x in run["rows"] if x["text"] == r["text"] and x["way"] == "cpu-only")
            ratio = least(r) / least(base)
            if r["way"] != "cpu-only":
                ratios.append((ratio - 1, f"{run['model']}, {r['text']}, {r['way']}"))
            rows.append([r["text"], r["way"], time_of(r), f"{ratio:.2f}", r.get("by_plan_tokens", ""), r.get("device_share", ""), r.get("padding", ""),
                         r.get("overflow", ""), r.get("dropped", "")])
        text += ["", f"### {run['model']}, prompt of {run['prompt']}", "",
                 table(["text", "way", "ms", "of cpu-only", "tokens by plan", "pairs on device %", "padding %", "overflow %", "dropped"], rows,
                       ["---", "---"] + ["---:"] * 7)]
    exact = [[t, v["compared"]["positions"], f"{v['compared']['perplexity']['base']:.1f}", f"{v['compared']['kl']['mean']:.1e}",
              f"{v['compared']['kl']['p99']:.1e}", f"{v['compared']['kl']['max']:.1e}",
              f"{100 * v['compared']['top1']['same_share']:.2f}", f"{v['host_against_fp32']:.1e}" if "host_against_fp32" in v else "",
              v["plan"]["pairs"], v["plan"]["device_rows"], v["plan"]["overflow"], v["plan"]["dropped"]] for t, v in data["exact"].items()]
    idle = [t for t, v in data["exact"].items() if v["plan"]["device_rows"] == 0]
    text += ["", "### Exactness, demo model", "", table(["text", "positions", "perplexity", "KL mean", "KL P99", "KL max", "same first choice %",
                                                           "KL of the host's arithmetic from fp32", "pairs", "on the device", "overflow", "dropped"], exact), "",
             "The model has read tales only; source code is noise to it. Means come from a few positions, as the largest "
             "beside the 99th percentile shows: the device rounds otherwise than the host, which sends a token at a near "
             "tie of its router to another expert." + (
                 f" No pair ran on the device with {'; '.join(idle)}: there the device had attention, QKV and O at most, and its "
                 "arithmetic of experts was not tried." if idle else "")]
    worst = max(ratios)
    bars.add(4, "never slower than cpu-only by more than 10 %", f"{100 * worst[0]:+.0f} % ({worst[1]})", worst[0] <= 0.1)
    kl = max(v["compared"]["kl"]["mean"] for v in data["exact"].values())
    lost = sum(v["plan"]["dropped"] for v in data["exact"].values())
    bars.add(4, "still exact: KL < 1e-4, nothing dropped", f"{kl:.1e} at most, {lost} dropped" + (
        f"; no pair on the device with {'; '.join(idle)}" if idle else ""), kl < 1e-4 and lost == 0)
    return text


def bad_input(data, bars):
    rows = [[r["case"], r["expected"] if r["expected"] != "either" else "refused or finished", r["code"],
             "`" + r["message"].replace("|", "/")[:150] + "`", "yes" if r["ok"] else "**no**"] for r in data["rows"]]
    good = sum(r["ok"] for r in data["rows"])
    bars.add(5, "refused with a message, or finished with the same answer", f"{good} of {len(data['rows'])}",
             good == len(data["rows"]))
    text = [stamp(data), "", "`finished`: exit code 0 and the answer, byte for byte, that the CPU alone gives. `refused`: exit code 1, a "
            "message, no answer, no file.", "", table(["case", "expected", "exit code", "first message", "as expected"], rows,
                                             ["---", "---", "---:", "---", "---"])]
    if "one_in_flight" in data:
        text += shared("cases of QKV and O by rows, chunks of 128", data["one_in_flight"])
    f = data.get("flipped")
    if f:
        text += ["", f"Plans with one byte changed at random: {f['refused']} refused, {f['finished']} run with the same answer, "
                 f"{f['other']} anything else."]
        bars.add(5, "one byte of a plan changed: refused, or the same answer", f"{f['other']} of {sum(f.values())} otherwise",
                 f["other"] == 0)
    return text


def machine(folder, page):
    """What the page is about, and where figures of other machines are."""
    data = load(folder, page, "ablation")
    others = sorted(p.stem for p in folder.glob("evaluation*.md") if p.stem != page)
    return "\n".join([f"This page: {data['machine']['cpu']}, host `{data['host_isa']}`, device `{data['machine']['best']}`."] * bool(data)
                     + ["Other machines: " + ", ".join(f"[{name}]({name}.md)" for name in others) + "."] * bool(others)) + "\n"


def write(folder, page):
    bars, parts = Bars(), []
    for name, title, make in (("exactness", "1. Exactness", exactness), ("ablation", "2. Ablation", ablation),
                              ("ablation", "3. The planner against its bound", planner), ("drift", "4. Drift", drift),
                              ("bad-input", "5. Bad input", bad_input)):
        data = load(folder, page, name)
        parts += ["", f"## {title}", ""] + (make(data, bars) if data else ["Not measured."])
    text = "\n".join([HEAD.replace("{page}", page), machine(folder, page), "## Bars", "", bars.table(), *parts]) + "\n"
    (folder / f"{page}.md").write_text(text)
