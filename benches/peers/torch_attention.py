"""PyTorch peer for attention with a relative-position bias: forward and backward of
scaled_dot_product_attention with the bias as attn_mask, whose gradient is wanted too.

Usage: python torch_attention.py [--device cpu|cuda] [--config tiny|small|base|large] [--batch N]
                                 [--dtype float32|bfloat16] [--runs N]
Prints one JSON line: median milliseconds of forward, and of forward and backward together.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

CONFIGS = {"tiny": (65, 4, 32), "small": (65, 6, 64), "base": (197, 12, 64), "large": (197, 16, 64)}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--device", default="cpu")
    a.add_argument("--config", default="tiny")
    a.add_argument("--batch", type=int, default=32)
    a.add_argument("--dtype", default="float32")
    a.add_argument("--runs", type=int, default=20)
    o = a.parse_args()
    torch.manual_seed(0)
    n, heads, head = CONFIGS[o.config]
    new = dict(device=o.device, dtype=getattr(torch, o.dtype), requires_grad=True)
    q, k, v = (torch.randn(o.batch, heads, n, head, **new) for _ in range(3))
    bias = torch.randn(1, heads, n, n, **new)
    up = torch.randn(o.batch, heads, n, head, device=o.device, dtype=new["dtype"])

    def wait():
        if o.device == "cuda":
            torch.cuda.synchronize()

    def timed(f):
        for _ in range(3):
            f()
        times = []
        for _ in range(o.runs):
            wait()
            start = time.perf_counter()
            f()
            wait()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def both():
        torch.autograd.grad(forward(), (q, k, v, bias), up)

    result = dict(peer="pytorch", op="attention", torch=torch.__version__, config=o.config, device=o.device,
                  dtype=o.dtype, batch=o.batch, forward_ms=timed(forward), forward_backward_ms=timed(both))
    print(json.dumps(result))


main()
