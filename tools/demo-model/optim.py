"""Muon for the matrices inside the blocks, Adam for the rest; f32 master weights of the bf16 ones."""
import math

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
BATCH = 8  # matrices orthogonalised together: few enough to stay in cache


def orthogonalise(updates):
    """Replaces the singular values of each matrix by about 1 (five Newton-Schulz steps of Muon)."""
    a, b, c = NEWTON_SCHULZ
    x = updates / (updates.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    for _ in range(5):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).float()


class Muon:
    def __init__(self, weight, pieces, momentum=0.95, decay=0.1):
        self.weight, self.pieces, self.momentum, self.decay = weight, pieces, momentum, decay
        self.state = {"master": weight.detach().float().clone(), "velocity": torch.zeros(weight.shape)}

    @torch.no_grad()
    def step(self, gradient, lr):
        master, velocity = self.state["master"], self.state["velocity"]
        velocity.lerp_(gradient.float(), 1 - self.momentum)
        update = gradient.float().lerp_(velocity, self.momentum)  # Nesterov
        master.mul_(1 - lr * self.decay)
        for target, rows in zip(self.pieces(master), self.pieces(update)):
            scale = lr * math.sqrt(max(1.0, rows.shape[1] / rows.shape[2]))
            for first in range(0, len(rows), BATCH):
                target[first:first + BATCH].add_(orthogonalise(rows[first:first + BATCH]), alpha=-scale)
        self.weight.copy_(master)


class Adam:
    def __init__(self, weight, factor, decay=0.0, betas=(0.9, 0.95)):
        self.weight, self.factor, self.decay, self.betas = weight, factor, decay, betas
        zeros = torch.zeros(weight.shape)
        self.state = {"master": weight.detach().float().clone(), "mean": zeros, "square": zeros.clone(),
                      "steps": torch.zeros(())}

    @torch.no_grad()
    def step(self, gradient, lr):
        s, (b1, b2), gradient, lr = self.state, self.betas, gradient.float(), lr * self.factor
        s["steps"] += 1
        s["mean"].lerp_(gradient, 1 - b1)
        s["square"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        n = s["steps"].item()
        denominator = (s["square"] / (1 - b2 ** n)).sqrt_().add_(1e-8)
        s["master"].mul_(1 - lr * self.decay)
        s["master"].addcdiv_(s["mean"], denominator, value=-lr / (1 - b1 ** n))
        self.weight.copy_(s["master"])


def optimisers(weights, g):
    """Learning rates are relative to Muon's: the factors are Adam's rate over Muon's."""
    query_rows = g.heads * g.head_width
    def qkv(t):
        return t[:query_rows][None], t[query_rows:][None]
    def gate_up(t):
        return (t.view(-1, g.expert_width, g.width),)
    made = {}
    for name, weight in weights.items():
        kind = name.split(".")[-1]
        if kind == "qkv":
            made[name] = Muon(weight, qkv)
        elif kind == "gate_up":
            made[name] = Muon(weight, gate_up)
        elif kind == "attn_out":
            made[name] = Muon(weight, lambda t: (t[None],))
        elif kind == "down":
            made[name] = Muon(weight, lambda t: (t,))
        else:
            made[name] = Adam(weight, {"embedding": 0.4, "head": 0.2, "router": 0.1}.get(kind, 0.2))
    return made
