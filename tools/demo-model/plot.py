#!/usr/bin/env python3
"""Draws the training and held-out loss of a run as a small SVG."""
import argparse
import csv
import io
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

SMOOTH = 5  # logged steps averaged for the training curve


def rows(path):
    """A resumed run logs some steps twice: the later line counts."""
    with open(path, newline="") as file:
        return [row for _, row in sorted({int(r["step"]): r for r in csv.DictReader(file)}.items())]


def smoothed(values):
    return [sum(values[max(0, i - SMOOTH + 1):i + 1]) / min(i + 1, SMOOTH) for i in range(len(values))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of train.py")
    parser.add_argument("output", help=".svg to write")
    args = parser.parse_args()
    log = rows(pathlib.Path(args.run) / "log.csv")
    checks = [r for r in log if r["held_out"]]
    matplotlib.rcParams.update({"svg.hashsalt": "loss", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(7, 3.5))
    axes.plot([int(r["tokens"]) / 1e6 for r in log], smoothed([float(r["loss"]) for r in log]), lw=1, label="training")
    axes.plot([int(r["tokens"]) / 1e6 for r in checks], [float(r["held_out"]) for r in checks], lw=1.5, label="held out")
    for before, row in zip(log, log[1:]):
        if before["length"] != row["length"]:
            axes.axvline(int(row["tokens"]) / 1e6, color="0.8", lw=0.8, zorder=0)
            axes.text(int(row["tokens"]) / 1e6, 5.9, f" {row['length']}", fontsize=6, color="0.4", rotation=90, va="top")
    axes.set(xlabel="tokens seen (millions)", ylabel="loss (nats per token)", ylim=(3.2, 6))
    axes.grid(alpha=0.3)
    axes.legend()
    drawn = io.StringIO()
    figure.savefig(drawn, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
    pathlib.Path(args.output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
