#!/usr/bin/env python3
"""Continues a prompt with an exported GGUF through reference.py (no cache, so slow: for samples and checks only)."""
import argparse

import torch

from reference import Reference


def pick(logits, temperature, top_p, generator):
    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True)
    kept = probabilities.cumsum(-1) - probabilities < top_p
    return int(order[torch.multinomial(probabilities * kept, 1, generator=generator)])


def continuation(model, prompt, tokens, temperature, top_p, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = [model.tokenizer.eot, *model.tokenizer.encode(prompt)]
    start = len(ids)
    for _ in range(tokens):
        logits, _ = model.run(ids)
        chosen = pick(logits[-1], temperature, top_p, generator)
        if chosen == model.tokenizer.eot:
            break
        ids.append(chosen)
    return model.tokenizer.decode(ids[start:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("prompt")
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    prompt = args.prompt.encode().decode("unicode_escape")
    print(prompt + continuation(Reference(args.model), prompt, args.tokens, args.temperature, args.top_p, args.seed))


if __name__ == "__main__":
    main()
