"""Series 2 and 3: what each step of the planner is worth, and whether it knew.

A cell is a model, a prompt and a chunk size. All rows of a cell run in turn, round after round, without added
launch latency and with it, until the least time of each is confirmed (work.py says why).
"""
import fnmatch
import itertools

from material import MODELS, TYPE
from work import LEAST_RUNS

ALONE = ["--in-flight", 1]  # one chunk at a time
STATIC = ["--max-capacities", 1, "--no-parts", "--alone", *ALONE]
ROWS = {
    "cpu-only": None,
    "naive": ["--policy", "naive", *ALONE],
    "ladder": ["--policy", "ladder", *ALONE],
    "ladder-wavefront": ["--policy", "ladder"],
    "paper": ["--policy", "paper", *ALONE],
    "base": ["--tiers", 1, "--max-group", 1, "--all-experts", *STATIC],
    "+tiers": ["--max-group", 1, "--all-experts", *STATIC],
    "+groups": ["--all-experts", *STATIC],
    "+residency": STATIC,
    # so that a third of the host holds for prompts that load experts otherwise than the profile, too
    "full": ["--host-cpu", 28],
    "quickest": [],
}
FIGURES = ("wait", "busy", "occupied", "launches", "parts", "padding", "overflow", "dropped", "device_share", "failures",
           "fallbacks", "load")
PLANNED = [row for row in ROWS if ROWS[row] is not None]
ANE = ["--slots", 120, "--npu-mem", "3.5G"]
ALL_CORES = "all cores"
TWICE = "naive"  # where it takes long it takes half of a round

# Rounds at most, and at least where runs are short: within a slow phase two may well agree
GRID = [{"model": m, "prompt": p, "chunk": c, "latencies": [0, 150], "rounds": 8 if p == 1024 else 3, "budget": []}
        for m, p, c in itertools.product(("olmoe", "qwen3", "phi"), (1024, 4096), (256, 512, 1024))]
SPECIAL = [
    {"model": "demo", "prompt": 2048, "chunk": 512, "latencies": [0, 150], "rounds": 24, "least": 12, "budget": []},
    {"model": "olmoe16", "prompt": 1024, "chunk": 512, "latencies": [0, 150], "rounds": 5, "budget": []},
    {"model": "olmoe16", "prompt": 1024, "chunk": 512, "latencies": [150], "rounds": 5, "budget": ANE},
    {"model": "qwen16", "prompt": 1024, "chunk": 512, "latencies": [150], "rounds": 5, "budget": ANE},
]
QUICK = [{"model": "tiny", "prompt": 256, "chunk": 64, "latencies": [0, 150], "rounds": 1, "budget": []}]


def cell_name(cell):
    return f"{cell['model']}-{cell['prompt']}-{cell['chunk']}" + ("-ane" if cell["budget"] else "")


def plan_cell(material, cell):
    """{(row, latency): (path, summary)}"""
    profile = material.profile(cell["model"])
    cost = material.cost(cell["model"], cell["chunk"])
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
    args = ["run", "-m", material.model(model), "-f", material.prompt(model, kind, prompt), "-c", max(prompt, 64), "-n", 0, "--warmup",
            *(material.host() if host is None else host)]
    if plan:
        args += ["--plan", plan, "--stats-out", work.path("stats.json")]
        # Rows that are slower than the CPU are to be seen too, and a plan stays what it is.
        args += ["--npu-from", 2]
        args += ["--no-replan"]
    return work.command(*args, *extra)


def commands_of(material, cell, plans):
    """{key: command} of one round."""
    model, prompt = cell["model"], cell["prompt"]
    out = {("cpu-only", None): run_command(material, model, prompt),
           (ALL_CORES, None): run_command(material, model, prompt, host=[])}
    for (row, latency), (path, _) in plans.items():
        extra = [*cell["budget"]] + (["--npu-launch-us", latency] if latency else [])
        extra += ["--lossy"] if row == "paper" else []
        out[row, latency] = run_command(material, model, prompt, plan=path, extra=extra)
    return out


def run_cell(material, cell):
    plans = plan_cell(material, cell)
    commands = commands_of(material, cell, plans)
    runs = material.work.in_turn(f"cell-{cell_name(cell)}", commands, cell["rounds"], warm=[material.model(cell["model"])],
                                 least=cell.get("least", LEAST_RUNS), twice=[key for key in commands if key[0] == TWICE])
    machine = material.work.machine
    return {**cell, "date": machine["date"], "commit": machine["commit"], "warm": True,
            "rows": [row_of(key, of_key, plans.get(key, (None, None))[1]) for key, of_key in runs.items()]}


def row_of(key, runs, plan):
    """A row as it is kept: every time, the quickest run's figures, the prediction."""
    best = runs[0]
    row = {"row": key[0], "added_us": key[1], "tokens": best["tokens"], "times_s": [r["prompt_s"] for r in runs]}
    if plan is None:
        return {**row, "host_cpu_s": best["process_cpu_s"]}
    row["plan"] = plan
    if "plan" not in best:  # a plan with nothing on the device
        return {**row, "host_cpu_s": best["process_cpu_s"], "by_plan_tokens": 0, **dict.fromkeys(FIGURES, 0)}
    stats = best["plan"]
    return {**row, "host_cpu_s": stats["host_cpu"], **{name: stats[name] for name in FIGURES}, "by_plan_s": stats["wall"],
            "by_plan_tokens": stats["tokens"], "arithmetic": stats["arithmetic"]}


def evaluate(material, quick, pattern="*"):
    work = material.work
    cells = [c for c in (QUICK if quick else GRID + SPECIAL)
             if fnmatch.fnmatch(cell_name(c), pattern) or work.is_done(f"cell-{cell_name(c)}")]
    done = [work.step(f"cell-{cell_name(c)}", lambda c=c: run_cell(material, c))
            for c in cells]
    used = sorted({c["model"] for c in cells})
    models = {m: {**MODELS.get(m, {"title": "the demo model"}), "type": TYPE if m in MODELS else "Q6_K"} for m in used}
    return {"models": models, "host_isa": material.host_isa, "cells": done}
