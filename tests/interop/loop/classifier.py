"""Says whether generated digits are what they should be: a small classifier learns real ones,
and is then shown pictures whose folder names their class.

usage: classifier.py TRAIN.parquet TEST.parquet FOLDER...
       classifier.py TRAIN.parquet TEST.parquet generated/ restored/

The Parquet files are those of mnist.py, the folders what `vqtok decode` wrote.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

SIDE = 32


def padded(picture):
    """Grey, and padded to 32 pixels as the recipe mnist-vqvae does."""
    grey = np.asarray(picture.convert("L"))
    out = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - grey.shape[0]) // 2, (SIDE - grey.shape[1]) // 2
    out[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return out


def real(path, count=None):
    table = pq.read_table(path, columns=["image", "label"]).slice(0, count)
    pictures = [Image.open(io.BytesIO(row["bytes"])) for row in table["image"].to_pylist()]
    return tensors(pictures, [int(label) for label in table["label"].to_pylist()])


def drawn(folder):
    files = sorted(Path(folder).glob("*/*.png"))
    if not files:
        raise SystemExit(f"{folder}: no CLASS/NAME.png there")
    return tensors([Image.open(file) for file in files], [int(f.parent.name) for f in files])


def tensors(pictures, labels):
    pixels = np.stack([padded(picture) for picture in pictures])
    return torch.from_numpy(pixels).float()[:, None] / 255 - 0.5, torch.tensor(labels)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(model, pictures, labels, epochs):
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for epoch in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(model(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def accuracy(model, pictures, labels):
    return (model(pictures).argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=None, help="real ones to learn [all]")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = network()
    train(model, *real(given.train, given.images), given.epochs)
    pictures, labels = real(given.test)
    print(f"real, held out: {accuracy(model, pictures, labels):.1%} of {len(labels):,}")
    for folder in given.folders:
        pictures, labels = drawn(folder)
        print(f"{folder}: {accuracy(model, pictures, labels):.1%} of {len(labels):,}")


if __name__ == "__main__":
    main()
