"""The job that people write today: a PyTorch DataLoader over photos, the f16 VQGAN encoder, tokens
to Parquet. What `benches/end_to_end.rs` compares `vqtok tokenize` with, on the same weights.

Usage: tokenize_torch.py MODEL.safetensors OUT.parquet THREADS WORKERS LIST
LIST holds one path a line, in the order to be written. Short side to 256 (bicubic), centre crop,
batches of 16; NHWC. The caller sets the allocator, and measures time and memory.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from encode_torch import Encoder
from PIL import Image
from safetensors.torch import load_file

SIDE = 256
BATCH = 16


class Photos(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("RGB")
        short = min(image.size)
        size = [int(SIDE * side / short) for side in image.size]  # as torchvision's Resize
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (round((side - SIDE) / 2) for side in size)  # as its CenterCrop
        pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))
        return torch.from_numpy((pixels.astype(np.float64) / 127.5 - 1).astype(np.float32))


@torch.inference_mode()
def main():
    weights, out, threads, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    paths = open(sys.argv[5]).read().splitlines()
    torch.set_num_threads(threads)
    encoder = Encoder(load_file(weights), torch.float32)
    loader = torch.utils.data.DataLoader(Photos(paths), batch_size=BATCH, num_workers=workers)
    tokens = []
    for batch in loader:
        rows = encoder(batch.permute(0, 3, 1, 2))  # NHWC in memory already
        tokens.extend(rows.reshape(len(batch), -1).to(torch.int32).tolist())
    pq.write_table(pa.table({"uri": paths, "tokens": tokens}), out)


if __name__ == "__main__":
    main()
