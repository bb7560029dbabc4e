"""Series 2 and 3: what each step of the planner is worth, and whether it knew.

A cell is a model, a prompt and a chunk size. All rows of a cell run in turn, round after round, without added
launch latency and with it, so that a clock that drifts drifts for all.
"""
import fnmatch
import itertools

from material import MODELS, TYPE
from work import median, read_run

ALONE = ["--in-flight", 1]  # one chunk at a time
STATIC = ["--max-capacities", 1, "--no-parts", "--alone", *ALONE]
ROWS = {
    "cpu-only": None,
    "naive": ["--policy", "naive", *ALONE],
    "ladder": ["--policy", "ladder", *ALONE],
    "ladder-wavefront": ["--policy", "ladder", "--in-flight", 2],
    "paper": ["--policy", "paper", *ALONE],
    "base": ["--tiers", 1, "--max-group", 1, "--all-experts", *STATIC],
    "+tiers": ["--max-group", 1, "--all-experts", *STATIC],
    "+groups": ["--all-experts", *STATIC],
    "+residency": STATIC,
    "full": ["--in-flight", 2],
}
FIGURES = ("wait", "busy", "occupied", "launches", "parts", "padding", "overflow", "dropped", "device_share", "failures",
           "fallbacks", "load")
PLANNED = [row for row in ROWS if ROWS[row] is not None]
ANE = ["--slots", 120, "--npu-mem", "3.5G"]
ALL_CORES = "all cores"

KEY = ("cpu-only", ALL_CORES, "ladder", "full")  # in more rounds than the rest: most bars are between these

# rounds: of all rows, of the key rows
GRID = [{"model": m, "prompt": p, "chunk": c, "latencies": [0, 150], "rounds": (2, 3) if p == 1024 else (1, 2), "budget": []}
        for m, p, c in itertools.product(("olmoe", "qwen3", "phi"), (1024, 4096), (256, 512, 1024))]
SPECIAL = [
    {"model": "demo", "prompt": 2048, "chunk": 512, "latencies": [0, 150], "rounds": (5, 5), "budget": []},
    {"model": "olmoe16", "prompt": 1024, "chunk": 512, "latencies": [150], "rounds": (1, 2), "budget": []},
    {"model": "olmoe16", "prompt": 1024, "chunk": 512, "latencies": [150], "rounds": (1, 2), "budget": ANE},
]
QUICK = [{"model": "tiny", "prompt": 256, "chunk": 64, "latencies": [0, 150], "rounds": (1, 1), "budget": []}]


def cell_name(cell):
    return f"{cell['model']}-{cell['prompt']}-{cell['chunk']}" + ("-ane" if cell["budget"] else "")


def plan_cell(material, cell, windows):
    """{(row, latency): (path, summary)}"""
    profile = material.profile(cell["model"], windows)
    cost = material.cost(cell["model"], cell["chunk"], windows)
    plans = {}
    for row, latency in itertools.product(PLANNED, cell["latencies"]):
        label = f"{cell_name(cell)}.{row.strip('+')}.{latency}"
        added = ["--npu-launch-us", latency] if latency else []
        plans[row, latency] = material.plan(label, profile, cost, cell["chunk"], cell["prompt"],
                                            [*ROWS[row], *cell["budget"], *added])
    return plans


def run_command(material, model, prompt, kind="new-tales", plan=None, extra=(), host=None):
    """`npumoe run` of one prompt, by a plan or on the CPU."""
    work = material.work
    args = ["run", "-m", material.model(model), "-f", material.prompt(model, kind, prompt), "-c", max(prompt, 64), "-n", 0,
            *(material.host() if host is None else host)]
    if plan:
        args += ["--plan", plan, "--stats-out", work.path("stats.json")]
        # Rows that are slower than the CPU are to be seen too, and a plan stays what it is.
        args += ["--npu-from", 2]
        args += ["--no-replan"]
    return work.command(*args, *extra)


def commands_of(material, cell, plans):
    """[(key, command)] of one round."""
    model, prompt = cell["model"], cell["prompt"]
    out = [(("cpu-only", None), run_command(material, model, prompt)),
           ((ALL_CORES, None), run_command(material, model, prompt, host=[]))]
    for (row, latency), (path, _) in plans.items():
        extra = [*cell["budget"]] + (["--npu-launch-us", latency] if latency else [])
        extra += ["--lossy"] if row == "paper" else []
        out.append(((row, latency), run_command(material, model, prompt, plan=path, extra=extra)))
    return out


def in_turn(cell, commands):
    """Keys and commands of all rounds."""
    of_all, of_key = cell["rounds"]
    for i in range(of_key):
        for key, command in commands:
            if i < of_all or key[0] in KEY:
                yield key, command


def run_cell(material, cell, windows):
    plans = plan_cell(material, cell, windows)
    order = list(in_turn(cell, commands_of(material, cell, plans)))
    results = material.work.measure(f"cell-{cell_name(cell)}", [c for _, c in order],
                                    warm=[material.model(cell["model"])])
    rows = {}
    for (key, _), result in zip(order, results):
        rows.setdefault(key, []).append(read_run(result))
    return {**cell, "rows": [row_of(key, runs, plans.get(key, (None, None))[1]) for key, runs in rows.items()]}


def row_of(key, runs, plan):
    """A row as it is kept: every time, the median's figures, the prediction."""
    times = [r["prompt_s"] for r in runs]
    row = {"row": key[0], "added_us": key[1], "tokens": runs[0]["tokens"], "times_s": times, "median_s": median(times)}
    if plan is None:
        row["host_cpu_s"] = median([r["process_cpu_s"] for r in runs])
        return row
    row["plan"] = plan
    stats = [r["plan"] for r in runs if "plan" in r]
    if not stats:  # a plan with nothing on the device
        return {**row, "host_cpu_s": median([r["process_cpu_s"] for r in runs]), "by_plan_tokens": 0, **dict.fromkeys(FIGURES, 0)}
    row["host_cpu_s"] = median([s["host_cpu"] for s in stats])
    for name in FIGURES:
        row[name] = median([s[name] for s in stats])
    row["by_plan_s"] = median([s["wall"] for s in stats])
    row["by_plan_tokens"] = stats[0]["tokens"]
    row["arithmetic"] = stats[0]["arithmetic"]
    return row


def evaluate(material, quick, pattern="*"):
    work = material.work
    cells = [c for c in (QUICK if quick else GRID + SPECIAL)
             if fnmatch.fnmatch(cell_name(c), pattern) or work.is_done(f"cell-{cell_name(c)}")]
    windows = {"olmoe16": 4, "demo": 12}
    done = [work.step(f"cell-{cell_name(c)}", lambda c=c: run_cell(material, c, 1 if quick else windows.get(c["model"], 8)))
            for c in cells]
    used = sorted({c["model"] for c in cells})
    models = {m: {**MODELS.get(m, {"title": "the demo model"}), "type": TYPE if m in MODELS else "Q6_K"} for m in used}
    return {"models": models, "host_isa": material.host_isa, "cells": done}
