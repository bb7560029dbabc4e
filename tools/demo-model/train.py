#!/usr/bin/env python3
"""Trains the demo model on a folder of .txt files for a given time; run it again to resume."""
import argparse
import csv
import dataclasses
import json
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

import heap  # first: it sets the allocator before NumPy and PyTorch start
import numpy
import torch

from bpe import Tokenizer
from data import Windows, held_out_windows, training_tokens
from model import Geometry, Model, initial_weights
from optim import optimisers

MICRO_BATCH = 4096  # tokens per forward pass and thread: more of them than cores, so that a slowed core delays little
CLIP = 1.0
PHASES = [(0.0, 512), (0.80, 1024), (0.88, 2048), (0.94, 4096)]  # from this share of the run on: window length


def learning_rate(progress, peak, warm_up=0.01, flat_until=0.35):
    """Warm-up, plateau, then linear to zero; progress is the share of the budget, so that the decay always completes."""
    if progress < warm_up:
        return peak * progress / warm_up
    return peak * min(1.0, max(0.0, (1 - progress) / (1 - flat_until)))


def gradients(model, names, tokens, args):
    mean, _, loads, balance, z = model.losses(tokens)
    loss = mean + args.balance * balance + args.z_loss * z
    return torch.autograd.grad(loss, [model.w[n] for n in names]), mean.item(), loads


@torch.no_grad()
def clip(gradient):
    norm = sum(g.float().square().sum() for g in gradient).sqrt().item()
    if norm > CLIP:
        for g in gradient:
            g.mul_(CLIP / norm)
    return norm


class Run:
    def __init__(self, args):
        self.args, self.folder = args, pathlib.Path(args.run)
        self.pool = ThreadPoolExecutor(args.threads)
        self.tokenizer = Tokenizer.load(args.tokenizer)
        self.geometry = Geometry(vocabulary=len(self.tokenizer.tokens))
        self.weights = initial_weights(self.geometry, args.seed)
        for weight in self.weights.values():
            weight.requires_grad_(True)
        self.names = list(self.weights)
        self.model = Model(self.geometry, self.weights)
        self.optimisers = optimisers(self.weights, self.geometry)
        self.step, self.seen, self.elapsed = 0, 0, 0.0
        self.tokens = self.load_tokens()
        self.held_out = held_out_windows(args.held_out, self.tokenizer, 512, 16)
        self.windows, self.loads = None, []
        self.resume()

    def load_tokens(self):
        cache = self.folder / "tokens.npy"
        if not cache.exists():
            numpy.save(cache, training_tokens(self.args.corpus, self.tokenizer))
        return numpy.load(cache)

    def checkpoint(self):
        state = {n: o.state for n, o in self.optimisers.items()}
        torch.save({"step": self.step, "seen": self.seen, "elapsed": self.elapsed, "state": state}, self.folder / "new.pt")
        (self.folder / "new.pt").rename(self.folder / "checkpoint.pt")

    def resume(self):
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        saved = torch.load(path)
        self.step, self.seen, self.elapsed = saved["step"], saved["seen"], saved["elapsed"]
        for name, optimiser in self.optimisers.items():
            optimiser.state = saved["state"][name]
            with torch.no_grad():
                optimiser.weight.copy_(optimiser.state["master"])

    def next_windows(self, length):
        """Resuming reseeds with the step: the order differs from an uninterrupted run, the coverage does not."""
        if self.windows is None or self.windows.length != length:
            self.windows = Windows(self.tokens, length, self.args.seed + self.step)
        return self.windows.take(MICRO_BATCH // length)

    def train_step(self, progress):
        length = [n for share, n in PHASES if progress >= share][-1]
        count = self.args.batch // MICRO_BATCH
        batches = [self.next_windows(length) for _ in range(count)]
        parts = list(self.pool.map(lambda t: gradients(self.model, self.names, t, self.args), batches))
        total = list(parts[0][0])
        for part, _, _ in parts[1:]:
            torch._foreach_add_(total, part)
        torch._foreach_div_(total, count)
        norm = clip(total)
        lr = learning_rate(progress, self.args.rate)
        gradient = dict(zip(self.names, total))
        order = sorted(self.names, key=lambda n: -gradient[n].numel())
        list(self.pool.map(lambda n: self.optimisers[n].step(gradient[n], lr), order))
        self.step, self.seen = self.step + 1, self.seen + self.args.batch
        self.loads.append(torch.stack([part[2] for part in parts]).mean(0))
        return sum(part[1] for part in parts) / count, norm, lr, length

    @torch.no_grad()
    def held_out_loss(self):
        parts = list(self.pool.map(lambda t: self.model.losses(t)[0].item(), self.held_out.split(16)))
        return sum(parts) / len(parts)

    def log(self, name, row):
        path = self.folder / name
        new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def report(self, loss, norm, lr, length, check):
        row = {"step": self.step, "tokens": self.seen, "seconds": round(self.elapsed, 1), "length": length, "lr": f"{lr:.6f}",
               "loss": f"{loss:.4f}", "norm": f"{norm:.3f}", "held_out": ""}
        if check:
            row["held_out"] = f"{self.held_out_loss():.4f}"
            load = torch.stack(self.loads).mean(0)
            busiest = load.max(1).values * self.geometry.experts
            self.log("skew.csv", {"step": self.step, **{f"layer{i}": f"{b:.3f}" for i, b in enumerate(busiest.tolist())}})
            self.loads = []
        self.log("log.csv", row)
        print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)

    def progress(self):
        if self.args.tokens:
            return self.seen / (self.args.tokens * 1e6)
        return self.elapsed / (self.args.minutes * 60)

    def loop(self):
        last_save = time.time()
        while self.progress() < 1:
            start = time.time()
            figures = self.train_step(self.progress())
            check = self.step % self.args.check_every == 0
            if check or self.step % 10 == 0:
                self.report(*figures, check)
            if time.time() - last_save > self.args.save_seconds:
                self.checkpoint()
                last_save = time.time()
            self.elapsed += time.time() - start
        self.report(*figures, True)
        self.checkpoint()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="folder of training .txt files")
    parser.add_argument("held_out", help="folder of held-out .txt files")
    parser.add_argument("tokenizer", help="tokenizer.json of train_tokenizer.py")
    parser.add_argument("run", help="folder for checkpoints and logs")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=87, help="length of the run; the learning rate ends at 0 with it")
    budget.add_argument("--tokens", type=float, help="length in millions of tokens instead: does not depend on the machine's speed")
    parser.add_argument("--batch", type=int, default=16384, help="tokens per step")
    parser.add_argument("--threads", type=int, default=2, help="micro-batches at once, one core each")
    parser.add_argument("--rate", type=float, default=0.015, help="Muon's peak learning rate")
    parser.add_argument("--balance", type=float, default=0.05, help="weight of the load-balancing loss")
    parser.add_argument("--z-loss", type=float, default=0.001, help="weight of the router z-loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check-every", type=int, default=50, help="steps between held-out checks")
    parser.add_argument("--save-seconds", type=float, default=120)
    return parser.parse_args()


def main():
    torch.set_num_threads(1)
    args = arguments()
    pathlib.Path(args.run).mkdir(parents=True, exist_ok=True)
    run = Run(args)
    (run.folder / "geometry.json").write_text(json.dumps(dataclasses.asdict(run.geometry)))
    run.loop()


if __name__ == "__main__":
    main()
