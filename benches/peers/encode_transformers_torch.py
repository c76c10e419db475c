"""The encoders of ViT-VQGAN, TiTok and UniTok with their quantizers in PyTorch, on the weights that
`benches/encode.rs` wrote.

Usage: encode_transformers_torch.py FOLDER THREADS vit-vqgan|titok|unitok, float32; attention by
scaled_dot_product_attention, convolutions NHWC. Same protocol as encode_onnx.py.
"""

import json
import os
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

SIDE = 256


class Encoder:
    def __init__(self, weights, sizes):
        book = weights.pop("quantize.embedding.weight")
        books = sizes["books"]
        self.books = F.normalize(book, dim=1).reshape(books, -1, book.shape[1])
        self.w = {
            name: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
            for name, tensor in weights.items()
        }
        self.sizes = sizes

    def linear(self, x, name):
        weight = self.w[f"{name}.weight"]
        return F.linear(x, weight.reshape(weight.shape[0], -1), self.w.get(f"{name}.bias"))

    def norm(self, x, name, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def conv(self, x, name, stride=1, groups=1):
        weight = self.w[f"{name}.weight"]
        padding = weight.shape[2] // 2
        return F.conv2d(x, weight, self.w[f"{name}.bias"], stride, padding, groups=groups)

    def heads(self, qkv, heads):
        b, t, _ = qkv.shape
        q, k, v = qkv.reshape(b, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)

    def attend(self, qkv, heads):
        mixed = self.heads(qkv, heads).transpose(1, 2)
        return mixed.reshape(*qkv.shape[:2], -1)

    def patches(self, x, name):
        weight = self.w[f"{name}.weight"]
        y = F.conv2d(x, weight, self.w[f"{name}.bias"], stride=weight.shape[2:])
        return y.flatten(2).transpose(1, 2)

    def vit_vqgan(self, x):
        x = self.patches(x, "encoder.to_patch_embedding.0") + self.w["encoder.en_pos_embedding"]
        for layer in range(self.sizes["depth"]):
            name = f"encoder.transformer.layers.{layer}"
            qkv = self.linear(self.norm(x, f"{name}.0.norm"), f"{name}.0.fn.to_qkv")
            x = x + self.linear(self.attend(qkv, self.sizes["heads"]), f"{name}.0.fn.to_out")
            h = torch.tanh(self.linear(self.norm(x, f"{name}.1.norm"), f"{name}.1.fn.net.0"))
            x = x + self.linear(h, f"{name}.1.fn.net.2")
        return self.linear(self.norm(x, "encoder.transformer.norm"), "pre_quant")

    def titok(self, x):
        x = self.patches(x, "encoder.patch_embed")
        batch, latents = x.shape[0], self.w["latent_tokens"]
        one = self.w["encoder.class_embedding"].expand(batch, 1, -1)
        x = torch.cat([one, x], 1) + self.w["encoder.positional_embedding"]
        latents = latents + self.w["encoder.latent_token_positional_embedding"]
        count = latents.shape[0]
        x = self.norm(torch.cat([x, latents.expand(batch, -1, -1)], 1), "encoder.ln_pre")
        for layer in range(self.sizes["depth"]):
            name = f"encoder.transformer.{layer}"
            weight, bias = (self.w[f"{name}.attn.in_proj_{part}"] for part in ("weight", "bias"))
            qkv = F.linear(self.norm(x, f"{name}.ln_1"), weight, bias)
            x = x + self.linear(self.attend(qkv, self.sizes["heads"]), f"{name}.attn.out_proj")
            h = F.gelu(self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"))
            x = x + self.linear(h, f"{name}.mlp.c_proj")
        return self.linear(self.norm(x[:, -count:], "encoder.ln_post"), "encoder.conv_out")

    def norm2d(self, x, name):
        return self.norm(x.permute(0, 2, 3, 1), name, 1e-6).permute(0, 3, 1, 2)

    def inverted(self, x, name, stride):
        skip = x
        if stride == 2:
            skip = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        if f"{name}.shortcut.expand.weight" in self.w:
            skip = self.conv(skip, f"{name}.shortcut.expand")
        h = F.gelu(self.conv(self.norm2d(x, f"{name}.pre_norm"), f"{name}.conv1_1x1"))
        h = F.gelu(self.conv(h, f"{name}.conv2_kxk", stride, h.shape[1]))
        return self.conv(h, f"{name}.conv3_1x1") + skip

    def gated(self, x, name):
        n = self.norm(x, f"{name}.norm", 1e-6)
        h = F.gelu(self.linear(n, f"{name}.w0"), approximate="tanh") * self.linear(n, f"{name}.w1")
        return self.linear(h, f"{name}.w2")

    def unitok(self, x):
        backbone = "encoder.patch_embed.backbone"
        x = self.conv(x, f"{backbone}.stem.conv1", 2)
        x = self.conv(F.gelu(self.norm2d(x, f"{backbone}.stem.norm1")), f"{backbone}.stem.conv2")
        for stage, blocks in enumerate(self.sizes["blocks"]):
            for block in range(blocks):
                x = self.inverted(x, f"{backbone}.stages.{stage}.{block}", 1 if block else 2)
        x = self.conv(self.norm2d(x, f"{backbone}.pool.norm"), f"{backbone}.pool.proj", 2)
        x = x.flatten(2).transpose(1, 2) + self.w["encoder.pos_embed"]
        for block in range(self.sizes["depth"]):
            name = f"encoder.blocks.{block}"
            qkv = self.linear(self.norm(x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv")
            x = x + self.linear(self.attend(qkv, self.sizes["heads"]), f"{name}.attn.proj")
            x = x + self.gated(self.norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp")
        x, name = self.norm(x, "encoder.norm", 1e-6), "quant_proj"
        bias = torch.cat([self.w[f"{name}.attn.{b}"] for b in ("q_bias", "zero_k_bias", "v_bias")])
        qkv = F.linear(self.norm(x, f"{name}.norm1"), self.w[f"{name}.attn.qkv.weight"], bias)
        dim = self.w[f"{name}.attn.proj.weight"].shape[0]
        mixed = self.heads(qkv, x.shape[-1] // dim).mean(1)
        x = self.linear(self.norm(x, f"{name}.norm3"), f"{name}.proj")
        x = x + self.linear(mixed, f"{name}.attn.proj")
        return x + self.gated(self.norm(x, f"{name}.norm2"), f"{name}.mlp")

    def __call__(self, x, family):
        z = getattr(self, family.replace("-", "_"))(x)
        parts = z.reshape(-1, len(self.books), self.books.shape[2]).transpose(0, 1)
        return torch.bmm(F.normalize(parts, dim=2), self.books.transpose(1, 2)).argmax(2).flatten()


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@torch.inference_mode()
def main():
    folder, threads, family = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    images = np.fromfile(os.path.join(folder, "images.rgb"), np.uint8).reshape(-1, SIDE, SIDE, 3)
    with open(os.path.join(folder, "sizes.json")) as file:
        sizes = json.load(file)
    encoder = Encoder(load_file(os.path.join(folder, "model.safetensors")), sizes)

    def encode(first, count):
        x = np.stack([images[(first + i) % len(images)] for i in range(count)])
        x = torch.from_numpy((x.astype(np.float64) / 127.5 - 1).astype(np.float32))
        return encoder(x.permute(0, 3, 1, 2), family)  # NHWC in memory already

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
