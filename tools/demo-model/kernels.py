"""The model's differentiable operations: matrix products by PyTorch (bf16, oneDNN), everything else by kernels.c."""
import ctypes
import pathlib
import subprocess
import tempfile

import torch
import torch.nn.functional as F

EPSILON = 1e-6
HEAD_CHUNK = 2048  # rows of logits held at once
ROW_TILE = 64  # rows of an expert are padded to a multiple of this
QUERY_BLOCK = 128  # queries per attention block: few scores above the diagonal are computed in vain
FLAGS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-shared", "-fPIC"]


def build(name, *more):
    source = pathlib.Path(__file__).with_name(name)
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/library.so"
        subprocess.run(["cc", *FLAGS, *more, str(source), "-o", library, "-lm"], check=True)
        return ctypes.CDLL(library)


def build_tiles():
    """The AMX attention, or None on a machine without AMX."""
    try:
        library = build("attention_amx.c", "-mamx-tile", "-mamx-bf16")
    except subprocess.CalledProcessError:
        return None
    return library if library.amx_enable() == 0 else None


LIB = build("kernels.c")
TILES = build_tiles()


def call(name, *args, library=LIB):
    """Tensors go as pointers, ints as long, floats as float, None as NULL. ctypes drops the GIL during the call."""
    def convert(a):
        if isinstance(a, torch.Tensor):
            assert a.is_contiguous()
            return ctypes.c_void_p(a.data_ptr())
        if isinstance(a, float):
            return ctypes.c_float(a)
        return ctypes.c_long(a) if isinstance(a, int) else a
    getattr(library, name)(*map(convert, args))


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        n, d = x.shape
        y, scale = torch.empty_like(x), torch.empty(n)
        call("rmsnorm", x, weight, y, scale, n, d, EPSILON)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, scale = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(weight)
        call("rmsnorm_grad", x, weight, dy.contiguous(), scale, dx, dw, *x.shape)
        return dx, dw


class Heads(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("batch", "length", "heads", "groups", "d")]


class SplitHeads(torch.autograd.Function):
    """Packed q,k,v rows to heads, with the per-head RMS norm and the rotary turn of q and k."""

    @staticmethod
    def forward(ctx, rows, wq, wk, turn, batch, heads, groups):
        d, length = len(wq), len(rows) // batch
        shape = Heads(batch, length, heads, groups, d)
        q = rows.new_empty(batch, heads, length, d)
        k, v = rows.new_empty(batch, groups, length, d), rows.new_empty(batch, groups, length, d)
        scale = torch.empty(len(rows) * (heads + groups))
        call("split_heads", rows, wq, wk, turn, q, k, v, scale, ctypes.byref(shape), EPSILON)
        ctx.save_for_backward(rows, wq, wk, turn, scale)
        ctx.shape = shape
        return q, k, v

    @staticmethod
    def backward(ctx, dq, dk, dv):
        rows, wq, wk, turn, scale = ctx.saved_tensors
        drows, dwq, dwk = torch.empty_like(rows), torch.zeros_like(wq), torch.zeros_like(wk)
        call("split_heads_grad", rows, wq, wk, turn, dq.contiguous(), dk.contiguous(), dv.contiguous(), scale, drows, dwq,
             dwk, ctypes.byref(ctx.shape))
        return drows, dwq, dwk, None, None, None, None


class Attention(torch.autograd.Function):
    """Causal grouped-query attention; the query heads that share a key head are stacked as rows of one product."""

    @staticmethod
    def forward(ctx, q, k, v):
        batch, heads, length, d = q.shape
        groups = k.shape[1]
        q = q.view(batch * groups, heads // groups, length, d)
        k, v = k.view(-1, length, d), v.view(-1, length, d)
        out, blocks = torch.empty_like(q), []
        for first in range(0, length, QUERY_BLOCK):
            end = min(first + QUERY_BLOCK, length)
            rows = q[:, :, first:end].reshape(len(k), -1, d)
            p = torch.bmm(rows, k[:, :end].transpose(1, 2))
            call("causal_softmax", p, p.shape[0] * p.shape[1], end - first, first, end, d ** -0.5)
            out[:, :, first:end] = torch.bmm(p, v[:, :end]).view(len(k), -1, end - first, d)
            blocks.append(p)
        ctx.save_for_backward(q, k, v, *blocks)
        return out.view(batch, heads, length, d)

    @staticmethod
    def backward(ctx, dout):
        q, k, v, *blocks = ctx.saved_tensors
        batch, heads, length, d = dout.shape
        dout = dout.reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for p, first in zip(blocks, range(0, length, QUERY_BLOCK)):
            end = p.shape[2]
            rows = q[:, :, first:end].reshape(len(k), -1, d)
            drows = dout[:, :, first:end].reshape(len(k), -1, d)
            dv[:, :end] += torch.bmm(p.transpose(1, 2), drows)
            ds = torch.bmm(drows, v[:, :end].transpose(1, 2))
            call("causal_softmax_grad", p, ds, p.shape[0] * p.shape[1], end - first, first, end, d ** -0.5)
            dq[:, :, first:end] = torch.bmm(ds, k[:, :end]).view(len(k), -1, end - first, d)
            dk[:, :end] += torch.bmm(ds.transpose(1, 2), rows)
        return dq.view(batch, heads, length, d), dk.view(batch, -1, length, d), dv.view(batch, -1, length, d)


class TileShape(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_long) for name in ("pairs", "sharing", "length", "row", "groups")), ("factor", ctypes.c_float)]


class TileAttention(torch.autograd.Function):
    """The same on AMX tiles, with the output as rows of all heads of a token."""

    @staticmethod
    def forward(ctx, q, k, v):
        batch, heads, length, d = q.shape
        groups = k.shape[1]
        ctx.shape = TileShape(batch * groups, heads // groups, length, heads * d, groups, d ** -0.5)
        out, lse = q.new_empty(batch * length, heads * d), torch.empty(batch * heads * length)
        call("attention_forward", q, k, v, out, lse, ctypes.byref(ctx.shape), library=TILES)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx, dout):
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        call("attention_backward", q, k, v, out, dout.contiguous(), lse, dq, dk, dv, ctypes.byref(ctx.shape), library=TILES)
        return dq, dk, dv


def attention(q, k, v):
    """Heads [batch, heads, length, d] to rows [batch * length, heads * d]."""
    batch, heads, length, d = q.shape
    if TILES and d == 64 and length % 64 == 0:
        return TileAttention.apply(q, k, v)
    return Attention.apply(q, k, v).transpose(1, 2).reshape(batch * length, heads * d)


def sort_by_expert(chosen, experts):
    """Sorted row to token * k + slot (-1 for padding), its inverse, and the rows of each expert.

    Each expert's rows are padded to a multiple of ROW_TILE: oneDNN compiles a kernel for every new row count, which
    costs more than the product itself.
    """
    flat = chosen.reshape(-1)
    counts = torch.bincount(flat, minlength=experts)
    padded = (counts + ROW_TILE - 1) // ROW_TILE * ROW_TILE
    ends = padded.cumsum(0)
    shift = (ends - padded) - (counts.cumsum(0) - counts)  # how far padding moves each expert's rows
    by_expert = torch.argsort(flat, stable=True)
    place = torch.empty_like(flat)
    place[by_expert] = torch.arange(len(flat)) + shift[flat[by_expert]]
    order = torch.full((int(ends[-1]),), -1)
    order[place] = torch.arange(len(flat))
    return order, place, list(zip([0, *ends.tolist()], ends.tolist()))


class Experts(torch.autograd.Function):
    """sum over the chosen experts of weight * down(silu(gate x) * up x), on rows sorted by expert."""

    @staticmethod
    def forward(ctx, x, chosen, weight, gate_up, down):
        n, d = x.shape
        k, ff = chosen.shape[1], down.shape[2]
        order, place, spans = sort_by_expert(chosen, len(down))
        rows = len(order)
        xs = x.new_empty(rows, d)
        call("gather", x, order, None, xs, rows, k, d)
        hidden = x.new_empty(rows, 2 * ff)
        for e, (a, b) in enumerate(spans):
            torch.mm(xs[a:b], gate_up[e].t(), out=hidden[a:b])
        h = x.new_empty(rows, ff)
        call("swiglu", hidden, h, rows, ff)
        y = x.new_empty(rows, d)
        for e, (a, b) in enumerate(spans):
            torch.mm(h[a:b], down[e].t(), out=y[a:b])
        out = torch.empty_like(x)
        weight = weight.contiguous()
        call("combine", y, place, weight, out, n, k, d)
        ctx.save_for_backward(xs, hidden, h, y, order, place, weight, gate_up, down)
        ctx.spans = spans
        return out

    @staticmethod
    def backward(ctx, dout):
        xs, hidden, h, y, order, place, weight, gate_up, down = ctx.saved_tensors
        dout = dout.contiguous()
        (n, k), (rows, d), ff = weight.shape, xs.shape, h.shape[1]
        dweight = torch.empty_like(weight)
        call("combine_weight_grad", dout, y, place, dweight, n, k, d)
        dy = torch.empty_like(y)
        call("gather", dout, order, weight, dy, rows, k, d)
        dh, ddown = torch.empty_like(h), torch.zeros_like(down)
        for e, (a, b) in enumerate(ctx.spans):
            if b > a:
                torch.mm(dy[a:b], down[e], out=dh[a:b])
                torch.mm(dy[a:b].t(), h[a:b], out=ddown[e])
        dhidden = torch.empty_like(hidden)
        call("swiglu_grad", hidden, dh, dhidden, rows, ff)
        dxs, dgate_up = torch.empty_like(xs), torch.zeros_like(gate_up)
        for e, (a, b) in enumerate(ctx.spans):
            if b > a:
                torch.mm(dhidden[a:b], gate_up[e], out=dxs[a:b])
                torch.mm(dhidden[a:b].t(), xs[a:b], out=dgate_up[e])
        dx = dout.new_empty(n, d)
        call("combine", dxs, place, None, dx, n, k, d)
        return dx, None, dweight, dgate_up, ddown


class HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of the output head, in chunks of rows, with the gradients made on the way forward."""

    @staticmethod
    def forward(ctx, x, head, target):
        n, losses = len(x), torch.empty(len(x))
        train = ctx.needs_input_grad[0]
        dx, dhead = torch.empty_like(x), torch.zeros(head.shape)
        for a in range(0, n, HEAD_CHUNK):
            b = min(a + HEAD_CHUNK, n)
            logits = F.linear(x[a:b], head)
            call("cross_entropy", logits, target[a:b], losses[a:b], b - a, len(head), 1.0 / n if train else 0.0)
            if train:
                torch.mm(logits, head, out=dx[a:b])
                dhead += torch.mm(logits.t(), x[a:b])
        if train:
            ctx.save_for_backward(dx, dhead.to(head.dtype))
        ctx.mark_non_differentiable(losses)
        return losses.mean(), losses

    @staticmethod
    def backward(ctx, dloss, _):
        dx, dhead = ctx.saved_tensors
        return dx * dloss, dhead * dloss, None
