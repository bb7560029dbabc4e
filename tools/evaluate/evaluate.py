#!/usr/bin/env python3
"""Measures what plans are worth and writes docs/evaluation.md, from raw figures that it keeps in docs/evaluation/.

    make evaluate                                      everything, in the folder build/evaluate
    tools/evaluate/evaluate.py WORKDIR                 the same: models, profiles, cost tables, plans, runs
    tools/evaluate/evaluate.py WORKDIR --only ablation one series: exactness, ablation, drift, bad-input
    tools/evaluate/evaluate.py WORKDIR --quick --out X smoke: tiny models, a few minutes, nothing to conclude from
    tools/evaluate/evaluate.py --report                docs/evaluation.md from docs/evaluation/*.json, nothing measured
    tools/evaluate/evaluate.py WORKDIR --page NAME     docs/NAME.md and docs/NAME/, such as another machine's

WORKDIR needs some 16 GB and keeps what was done, so that a run that was stopped goes on. Measured commands run in
batches of mostly under 80 s through --prefix, such as a script that waits until nobody else uses the machine.
"""
import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import ablation  # noqa: E402
import bad_input  # noqa: E402
import drift  # noqa: E402
import exactness  # noqa: E402
import report  # noqa: E402
from material import Material  # noqa: E402
from work import Failed, Work, run_batch, run_one  # noqa: E402

SERIES = {"exactness": "exact-", "ablation": "cell-", "drift": "drift-", "bad-input": "bad-input"}  # names of their steps
ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", help="WORKDIR")
    p.add_argument("--only", action="append", choices=SERIES, help="this series only; may be repeated")
    p.add_argument("--cells", default="*", help="of the ablation: names such as 'olmoe-1024-*'")
    p.add_argument("--prefix", help="a command before measured batches")
    p.add_argument("--other", help="a command before everything else")
    p.add_argument("--quick", action="store_true", help="tiny models, one round")
    p.add_argument("--redo", action="store_true", help="forget what was done: all but the models; with --only, the runs of these series")
    p.add_argument("--report", action="store_true", help="only write the page again")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "docs", help="the page and its raw figures go there")
    p.add_argument("--page", default="evaluation", help="NAME.md and NAME/; one machine's figures are one page")
    p.add_argument("--verse", type=pathlib.Path, help="verse to run on, instead of verse made from a seed")
    p.add_argument("--book", type=pathlib.Path, help="a held-out text for exactness beside the tales")
    p.add_argument("--note", help="a remark for the page, such as what else the machine did")
    p.add_argument("--host-isa", help="kernels of the host; default: the best that has no matrix unit or, without one, is not AVX-512")
    p.add_argument("--npumoe", type=pathlib.Path, default=ROOT / "build/release/npumoe")
    p.add_argument("--mkmodel", type=pathlib.Path, default=ROOT / "build/release/mkmodel")
    p.add_argument("--batch", type=pathlib.Path, help=argparse.SUPPRESS)
    return p.parse_args()


def machine_of(work):
    doctor = json.loads(run_one(work.command("doctor", "--json"))["out"])
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "cpu": doctor["cpu"]["model"],
            "cpus": doctor["cpu"]["allowed"], "os": doctor["os"], "compiler": doctor["compiler"],
            "commit": doctor["build_commit"], "best": doctor["kernels"]["chosen"], "usable": doctor["kernels"]["usable"]}


def host_isa(options, machine):
    """What stands for a host beside an NPU: the best tier without a matrix unit; where there is no such unit, the best
    of half the width."""
    lesser = [t for t in machine["usable"] if t not in ("amx", "scalar")]
    if "amx" not in machine["usable"]:
        lesser = [t for t in lesser if not t.startswith("avx512")]
    return options.host_isa or (lesser or ["scalar"])[-1]


def save(folder, name, result):
    """Raw figures that can be read and compared by line: one for each object that holds no other."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(lines_of(result, 0) + "\n")


def lines_of(value, depth):
    flat = json.dumps(value)
    if not isinstance(value, (dict, list)) or len(flat) < 900:
        return flat
    indent = "\n" + " " * (depth + 1)
    if isinstance(value, list):
        return "[" + ",".join(indent + lines_of(v, depth + 1) for v in value) + indent[:-1] + "]"
    return "{" + ",".join(f"{indent}{json.dumps(k)}: {lines_of(v, depth + 1)}" for k, v in value.items()) + indent[:-1] + "}"


def main():
    options = parse()
    if options.batch:
        return run_batch(options.batch)
    if not options.report:
        if not options.folder:
            sys.exit("evaluate: which folder to work in? (-h)")
        measure(options)
    report.write(options.out, options.page)
    return None


def stamp(work, name, measured):
    """Date and machine of a series: of the time when its last step was made, not of when all was found done."""
    path = work.path(f"{name}.stamp.json")
    if measured or not path.exists():
        path.write_text(json.dumps(work.machine))
    note = {"note": work.machine["note"]} if "note" in work.machine else {}
    return json.loads(path.read_text()) | note


def measure(options):
    work = Work(options.folder, options)
    machine = work.machine = machine_of(work) | ({"note": options.note} if options.note else {})
    material = Material(work, host_isa(options, machine), options.verse)
    raw = options.out / options.page
    if options.redo:
        work.forget([SERIES[name] for name in options.only or []])
    for name in options.only or SERIES:
        start, made = time.monotonic(), work.made
        if name == "exactness":
            result = exactness.evaluate(material, options.quick, options.book)
        elif name == "ablation":
            result = ablation.evaluate(material, options.quick, options.cells)
        elif name == "drift":
            result = drift.evaluate(material, options.quick)
        else:
            result = bad_input.evaluate(material, options.quick)
        save(raw, name, {"machine": stamp(work, name, work.made > made), "host_isa": material.host_isa, **result})
        work.say(f"{name}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"evaluate: {failure}")
