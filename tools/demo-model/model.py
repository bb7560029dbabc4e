"""The demo model: the qwen3moe graph at a small size, in bf16 with f32 norms and router."""
import dataclasses

import torch
import torch.nn.functional as F

from kernels import Experts, HeadLoss, RMSNorm, SplitHeads, attention


@dataclasses.dataclass
class Geometry:
    vocabulary: int = 6144
    layers: int = 8
    width: int = 256
    heads: int = 4
    groups: int = 2
    head_width: int = 64
    experts: int = 16
    chosen: int = 2
    expert_width: int = 256
    theta: float = 10000.0
    context: int = 4096


def initial_weights(g, seed):
    """Name to tensor. Blocks start as the identity (zero attn_output and down), so early steps are stable."""
    torch.manual_seed(seed)
    def normal(std, *shape, dtype=torch.bfloat16):
        return (torch.randn(*shape) * std).to(dtype)
    def zeros(*shape):
        return torch.zeros(*shape, dtype=torch.bfloat16)
    weights = {"embedding": normal(0.1, g.vocabulary, g.width), "head": normal(0.02, g.vocabulary, g.width),
               "norm": torch.ones(g.width)}
    rows = (g.heads + 2 * g.groups) * g.head_width
    for i in range(g.layers):
        weights |= {
            f"{i}.attn_norm": torch.ones(g.width),
            f"{i}.qkv": normal(0.05, rows, g.width),
            f"{i}.q_norm": torch.ones(g.head_width),
            f"{i}.k_norm": torch.ones(g.head_width),
            f"{i}.attn_out": zeros(g.width, g.heads * g.head_width),
            f"{i}.ffn_norm": torch.ones(g.width),
            f"{i}.router": normal(0.02, g.experts, g.width, dtype=torch.float32),
            f"{i}.gate_up": normal(0.05, g.experts, 2 * g.expert_width, g.width),
            f"{i}.down": zeros(g.experts, g.width, g.expert_width),
        }
    return weights


def rotary_table(g, length):
    """Per position: cosines, then sines, of the head_width / 2 angles (NEOX pairing: j with j + head_width / 2)."""
    frequency = g.theta ** (-torch.arange(0, g.head_width, 2, dtype=torch.float64) / g.head_width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1).float()


def route(x, router, k):
    """Softmax over all experts, top k, renormalised; with the two auxiliary losses and the load of each expert."""
    logits = F.linear(x.float(), router)
    probabilities = logits.softmax(-1)
    weight, chosen = probabilities.topk(k)
    weight = weight / weight.sum(-1, keepdim=True)
    load = torch.bincount(chosen.reshape(-1), minlength=len(router)).float() / chosen.numel()
    balance = len(router) * (load * probabilities.mean(0)).sum()  # 1 when even (Switch Transformer)
    z = logits.logsumexp(-1).square().mean()
    return chosen, weight, load, balance, z


class Model:
    def __init__(self, geometry, weights):
        self.g, self.w = geometry, weights
        self.turn = rotary_table(geometry, geometry.context)

    def block(self, i, x, batch):
        g, w = self.g, self.w
        rows = F.linear(RMSNorm.apply(x, w[f"{i}.attn_norm"]), w[f"{i}.qkv"])
        q, k, v = SplitHeads.apply(rows, w[f"{i}.q_norm"], w[f"{i}.k_norm"], self.turn, batch, g.heads, g.groups)
        x = x + F.linear(attention(q, k, v), w[f"{i}.attn_out"])
        normed = RMSNorm.apply(x, w[f"{i}.ffn_norm"])
        chosen, weight, load, balance, z = route(normed, w[f"{i}.router"], g.chosen)
        x = x + Experts.apply(normed, chosen, weight, w[f"{i}.gate_up"], w[f"{i}.down"])
        return x, load, balance, z

    def hidden(self, tokens):
        """tokens [batch, length] to (final hidden rows, loads [layers, experts], mean balance and z losses)."""
        x = F.embedding(tokens.reshape(-1), self.w["embedding"])
        loads, balance, z = [], 0.0, 0.0
        for i in range(self.g.layers):
            x, load, b, layer_z = self.block(i, x, len(tokens))
            loads.append(load)
            balance, z = balance + b / self.g.layers, z + layer_z / self.g.layers
        return RMSNorm.apply(x, self.w["norm"]), torch.stack(loads), balance, z

    def losses(self, tokens):
        """tokens [batch, length + 1] to (mean loss, per-token losses, loads, balance, z)."""
        x, loads, balance, z = self.hidden(tokens[:, :-1])
        mean, each = HeadLoss.apply(x, self.w["head"], tokens[:, 1:].reshape(-1).contiguous())
        return mean, each.view(len(tokens), -1), loads, balance, z
