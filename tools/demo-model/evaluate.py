#!/usr/bin/env python3
"""Held-out perplexity and routing skew of an exported GGUF, computed by reference.py in f32; prints Markdown tables."""
import argparse
import itertools
import math

import heap  # first: it sets the allocator before NumPy and PyTorch start
import numpy
import torch
import torch.nn.functional as F

from data import books
from reference import Reference

BUCKETS = (0, 64, 256, 512, 1024, 2048, 3072, 4096)


def windows(ids, start, context):
    """Windows without overlap, each opened by <|endoftext|>, so that every token of the book is scored once."""
    for first in range(0, len(ids), context - 1):
        yield [start, *ids[first:first + context - 1]]


class Tally:
    def __init__(self, model, context):
        self.model, self.context = model, context
        self.by_position = numpy.zeros((2, context))
        self.loads = []  # per window: [layers, experts]

    def book(self, text, limit=None):
        """(total loss in nats, tokens) of a book or its first windows; adds to the loss by position and the loads."""
        total, count = 0.0, 0
        ids, start = self.model.tokenizer.encode(text.strip()), self.model.tokenizer.eot
        for window in itertools.islice(windows(ids, start, self.context), limit):
            logits, chosen = self.model.run(window[:-1])
            loss = F.cross_entropy(logits, torch.tensor(window[1:]), reduction="none").double().numpy()
            self.by_position[:, :len(loss)] += loss, numpy.ones(len(loss))
            total, count = total + loss.sum(), count + len(loss)
            self.loads.append(torch.stack([torch.bincount(c.flatten(), minlength=self.experts()) for c in chosen]).numpy())
        return total, count

    def experts(self):
        return self.model.metadata["qwen3moe.expert_count"]


def gini(load):
    """0 when every expert gets the same load, near 1 when one gets all."""
    load = numpy.sort(load)
    ranks = numpy.arange(1, len(load) + 1)
    return (2 * ranks - len(load) - 1) @ load / (len(load) * load.sum())


def perplexity_row(name, loss, tokens, size):
    return (f"| {name} | {tokens} | {loss / tokens:.4f} | {math.exp(loss / tokens):.2f} | {math.exp(loss / size):.3f} | "
            f"{loss / size / math.log(2):.3f} |")


def print_perplexity(tally, folder):
    print("| book | tokens | nats per token | perplexity per token | perplexity per byte | bits per byte |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    sums = numpy.zeros(3)
    for name, text in books(folder).items():
        figures = *tally.book(text), len(text.strip().encode("utf-8"))
        sums += figures
        print(perplexity_row(name, *figures), flush=True)
    print(perplexity_row("all", sums[0], int(sums[1]), sums[2]))


def print_positions(model, context, folder, limit):
    tally = Tally(model, context)
    for text in books(folder).values():
        tally.book(text, limit)
    print("\n| position in the window | nats per token |\n| --- | ---: |")
    for a, b in zip(BUCKETS, BUCKETS[1:]):
        loss, count = tally.by_position[:, a:b].sum(1)
        if count:
            print(f"| {a}..{b - 1} | {loss / count:.4f} |")


def print_skew(tally):
    """Over everything read, and what one window sees: the average of the windows' busiest / mean."""
    windows = numpy.stack(tally.loads)
    within = (windows.max(2) / windows.mean(2)).mean(0)
    print("\n| layer | busiest / mean | least / mean | Gini | idle experts | busiest / mean in a window |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for i, load in enumerate(windows.sum(0)):
        share = load / load.mean()
        print(f"| {i} | {share.max():.2f} | {share.min():.2f} | {gini(load):.3f} | {(load == 0).sum()} | {within[i]:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("held_out", help="folder of held-out .txt files")
    parser.add_argument("--context", type=int, default=1024, help="window of the perplexity and the skew")
    parser.add_argument("--long", type=int, default=4096, help="window of the loss by position")
    parser.add_argument("--long-windows", type=int, default=4, help="such windows per book")
    parser.add_argument("--only-long", action="store_true", help="the loss by position alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = Reference(args.model)
    tally = Tally(model, args.context)
    if not args.only_long:
        print_perplexity(tally, args.held_out)
        print_skew(tally)
    if args.long_windows:
        print_positions(model, args.long, args.held_out, args.long_windows)


if __name__ == "__main__":
    main()
