#!/usr/bin/env python3
"""make_golden.py MKMODEL [NAME ...]: writes NAME.txt for the cases of cases.txt.

Each file holds the case's mkmodel arguments, tokens, and for some positions the mean and the root mean
square of all logits and the eight largest, from oracle.py. The models are not stored: mkmodel's bytes
depend on arguments alone.

A case is refused when the oracle comes near a discontinuity of the router (a choice between experts, or
sparsemixer's band, decided by less than MARGIN): there single precision may rightly decide otherwise,
and the case would test luck. Take another seed then.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np

import oracle

MARGIN = 5e-5
HERE = os.path.dirname(os.path.abspath(__file__))


def cases():
    with open(os.path.join(HERE, "cases.txt")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                head, args = line.split(":", 1)
                name, n, ctx, chunk = head.split()
                yield name, int(n), int(ctx), int(chunk), args.split()


def tokens(n, vocab):
    """A fixed sequence with repetitions, as text has them."""
    state, out = 12345, []
    for i in range(n):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(out[i - 7] if i % 5 == 4 and i > 7 else 3 + state // 64 % (vocab - 6))
    return out


def router_margin(model):
    """The smallest distance to another decision, over all scores that this model routes."""
    least, route = [np.inf], model.route

    def watched(scores):
        s = np.sort(scores)[::-1]
        least[0] = min(least[0], s[model.used - 1] - s[model.used])
        if model.arch == "phimoe":
            least[0] = min(least[0], s[0] - s[1])
            for i, m in enumerate(s[:2]):
                rest = s[i + 1:]
                far = (m - rest) / np.maximum(np.abs(rest), m) - 0.02
                least[0] = min(least[0], np.min(np.abs(far)))
        return route(scores)

    model.route = watched
    return least


def write_case(mkmodel, name, n, ctx, chunk, args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        subprocess.run([mkmodel, *args, path], check=True)
        model = oracle.Model(path)
        margin = router_margin(model)
        ids = tokens(n, len(model.g.kv["tokenizer.ggml.tokens"]))
        logits = model.logits(ids)
        original = model.key("rope.scaling.original_context_length", n)
    if margin[0] < MARGIN:
        sys.exit(f"{name}: the router decides by {margin[0]:.1e} somewhere; add or change --seed")
    # A prefix within LongRoPE's original context is another function than the same positions of a longer prompt.
    grow_from = original if n > original else 0
    at = sorted({0, 1, chunk - 1, chunk, chunk + 1, n // 2, 3 * n // 4, n - 2, n - 1})
    with open(os.path.join(HERE, name + ".txt"), "w") as f:
        f.write(f"# {name}: made by make_golden.py from oracle.py; least router margin {margin[0]:.1e}\n")
        f.write(f"args {' '.join(args)}\nn_ctx {ctx}\nchunk {chunk}\ngrow_from {grow_from}\n")
        f.write(f"tokens {n} {' '.join(map(str, ids))}\n")
        for p in at:
            row = logits[p]
            top = np.argsort(-row, kind="stable")[:8]
            f.write(f"at {p} mean {row.mean():.7f} rms {np.sqrt((row * row).mean()):.7f} top")
            f.write("".join(f" {t} {row[t]:.6f}" for t in top) + "\n")
    print(f"{name}: {n} tokens, margin {margin[0]:.1e}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wanted = sys.argv[2:]
    for name, *rest in cases():
        if not wanted or name in wanted:
            write_case(sys.argv[1], name, *rest)


if __name__ == "__main__":
    main()
