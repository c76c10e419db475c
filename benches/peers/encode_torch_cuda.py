"""The f16 VQGAN encoder and its quantizer in PyTorch on a GPU, on the weights and images that
`benches/gpu.rs` wrote: the peer of our GPU engine.

Usage: encode_torch_cuda.py FOLDER BATCH ROUNDS; FOLDER holds model.safetensors, images.rgb and
tokens.u32 (float32 tokens of the images, ours). Prints one line of JSON a variant: images/s with
bytes copied from pinned memory and normalised on the GPU, and how many tokens differ from ours.
A variant that fails says why and costs nothing else.
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
from encode_torch import SIDE, Encoder
from safetensors.torch import load_file

# A run that is cut short has measured the number to beat.
VARIANTS = [
    ("bfloat16, channels_last", torch.bfloat16, None),
    ("bfloat16, channels_last, compiled", torch.bfloat16, "default"),
    ("bfloat16, channels_last, compiled, CUDA graphs", torch.bfloat16, "reduce-overhead"),
    ("float32, no TF32", torch.float32, None),
]


def encoder(weights, dtype, mode):
    model = Encoder({name: tensor.cuda() for name, tensor in weights.items()}, dtype)

    def encode(pixels):
        x = (pixels.to(torch.float32) / 127.5 - 1).permute(0, 3, 1, 2)  # NHWC in memory
        return model(x)

    return encode if mode is None else torch.compile(encode, mode=mode)


@torch.inference_mode()
def measure(weights, images, tokens, batch, rounds, dtype, mode):
    encode = encoder(weights, dtype, mode)
    repeated = np.concatenate([images] * -(-batch // len(images)))[:batch]
    pinned = torch.from_numpy(repeated).pin_memory()
    found = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        padded = np.concatenate([part, repeated])[:batch]
        codes = encode(torch.from_numpy(padded).cuda())
        found.append(codes.reshape(batch, -1)[: len(part)].cpu().numpy())
    flips = int((np.concatenate(found).reshape(-1) != tokens).sum())
    for _ in range(3):
        encode(pinned.cuda(non_blocking=True))
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        encode(pinned.cuda(non_blocking=True))
    torch.cuda.synchronize()
    return batch * rounds / (time.perf_counter() - started), flips


def main():
    folder, batch, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    images = np.fromfile(folder / "images.rgb", np.uint8).reshape(-1, SIDE, SIDE, 3)
    tokens = np.fromfile(folder / "tokens.u32", np.uint32)
    weights = load_file(folder / "model.safetensors")
    for name, dtype, mode in VARIANTS:
        line = {"name": f"PyTorch {torch.__version__} {name}", "tokens": len(tokens)}
        try:
            rate, flips = measure(dict(weights), images, tokens, batch, rounds, dtype, mode)
            line |= {"images_per_second": rate, "flips": flips}
        except Exception as error:  # a compiler that isn't there, a card that is too small
            line["error"] = str(error).split("\n")[0]
        print(json.dumps(line), flush=True)


main()
