"""MNIST's idx files as Parquet that vqtok reads: 55,000 images to train on, 5,000 held out.

usage: mnist.py IMAGES.gz LABELS.gz OUT

Writes OUT/train.parquet and OUT/test.parquet, with the columns that data sets on the Hugging Face
Hub have: `image` (a struct of PNG bytes and a path) and `label`.
"""

import argparse
import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HELD_OUT = 5_000


def idx(path):
    """An idx file as an array of bytes."""
    data = gzip.decompress(Path(path).read_bytes())
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def png(pixels):
    """A grey picture as a PNG file; Pillow isn't needed for that."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    height, width = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write(path, images, labels, first):
    names = [f"{first + i:05}.png" for i in range(len(images))]
    pictures = [{"bytes": png(image), "path": name} for image, name in zip(images, names)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(pictures, kind), "key": names, "label": [str(d) for d in labels]}
    pq.write_table(pa.table(columns), path, row_group_size=5_000)
    print(f"{path}: {len(images):,} images")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", help="train-images-idx3-ubyte.gz")
    parser.add_argument("labels", help="train-labels-idx1-ubyte.gz")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    images, labels = idx(given.images), idx(given.labels)
    given.out.mkdir(parents=True, exist_ok=True)
    whole = len(images) - HELD_OUT
    write(given.out / "train.parquet", images[:whole], labels[:whole], 0)
    write(given.out / "test.parquet", images[whole:], labels[whole:], whole)


if __name__ == "__main__":
    main()
