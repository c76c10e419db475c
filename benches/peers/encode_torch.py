"""The f16 VQGAN encoder and its quantizer in PyTorch, on the weights `benches/encode.rs` wrote.

Usage: encode_torch.py FOLDER THREADS float32|bfloat16; NHWC (channels_last). The caller sets the
allocator (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_). Same protocol as encode_onnx.py.
"""

import os
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

SIDE = 256
LEVELS = 5
BLOCKS = 2
GROUPS = 32
EPSILON = 1e-6


class Encoder:
    def __init__(self, weights, dtype):
        self.codes = weights.pop("quantize.embedding.weight")
        self.squares = (self.codes.double() ** 2).sum(1).float()
        self.w = {
            name: (
                tensor.to(dtype).to(memory_format=torch.channels_last)
                if tensor.dim() == 4
                else tensor.to(dtype)
            )
            for name, tensor in weights.items()
        }
        self.dtype = dtype

    def conv(self, x, name, stride=1):
        weight = self.w[f"{name}.weight"]
        padding = weight.shape[2] // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self.w[f"{name}.bias"], stride=stride, padding=padding)

    def norm(self, x, name):
        return F.group_norm(x, GROUPS, self.w[f"{name}.weight"], self.w[f"{name}.bias"], EPSILON)

    def residual(self, x, name):
        h = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = self.conv(F.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2")
        if f"{name}.nin_shortcut.weight" in self.w:
            x = self.conv(x, f"{name}.nin_shortcut")
        return x + h

    def attention(self, x, name):
        b, c, h, w = x.shape
        normed = self.norm(x, f"{name}.norm")
        q, k, v = (self.conv(normed, f"{name}.{p}").reshape(b, c, h * w) for p in "qkv")
        scores = torch.softmax(torch.bmm(q.transpose(1, 2), k) * c**-0.5, dim=2)
        out = torch.bmm(v, scores.transpose(1, 2)).reshape(b, c, h, w)
        return x + self.conv(out, f"{name}.proj_out")

    def __call__(self, x):
        h = self.conv(x.to(self.dtype), "encoder.conv_in")
        for level in range(LEVELS):
            for block in range(BLOCKS):
                h = self.residual(h, f"encoder.down.{level}.block.{block}")
                if f"encoder.down.{level}.attn.{block}.q.weight" in self.w:
                    h = self.attention(h, f"encoder.down.{level}.attn.{block}")
            if level + 1 < LEVELS:
                h = self.conv(F.pad(h, (0, 1, 0, 1)), f"encoder.down.{level}.downsample.conv", 2)
        h = self.residual(h, "encoder.mid.block_1")
        h = self.attention(h, "encoder.mid.attn_1")
        h = self.residual(h, "encoder.mid.block_2")
        h = self.conv(F.silu(self.norm(h, "encoder.norm_out")), "encoder.conv_out")
        rows = self.conv(h, "quant_conv").float().permute(0, 2, 3, 1).reshape(-1, self.codes.shape[1])
        return (self.squares - 2 * rows @ self.codes.t()).argmin(1)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@torch.inference_mode()
def main():
    folder, threads, dtype = sys.argv[1], int(sys.argv[2]), getattr(torch, sys.argv[3])
    torch.set_num_threads(threads)
    images = np.fromfile(os.path.join(folder, "images.rgb"), np.uint8).reshape(-1, SIDE, SIDE, 3)
    encoder = Encoder(load_file(os.path.join(folder, "model.safetensors")), dtype)

    def encode(first, count):
        x = np.stack([images[(first + i) % len(images)] for i in range(count)])
        x = torch.from_numpy((x.astype(np.float64) / 127.5 - 1).astype(np.float32))
        return encoder(x.permute(0, 3, 1, 2))  # NHWC in memory already

    encode(0, 1)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "tokens":
            print(*encode(0, len(images)).tolist(), flush=True)
            continue
        cpu, wall = cpu_seconds(), time.perf_counter()
        encode(0, int(line))
        print(cpu_seconds() - cpu, time.perf_counter() - wall, flush=True)


if __name__ == "__main__":
    main()
