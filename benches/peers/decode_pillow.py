"""Pillow's side of benches/decode.rs: CPU-milliseconds an image for decoding alone, then for
decoding, resizing the short side to 256 and cropping the centre, bilinear, bicubic and Lanczos.

usage: decode_pillow.py LIST (a file with one path a line)
"""

import io
import sys
import time

from PIL import Image


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def prepare(data, resample):
    image = decode(data)
    width, height = image.size
    if width <= height:
        size = (256, 256 * height // width)
    else:
        size = (256 * width // height, 256)
    image = image.resize(size, resample)
    left, top = round((size[0] - 256) / 2), round((size[1] - 256) / 2)
    image = image.crop((left, top, left + 256, top + 256))
    image.load()
    return image


def measure(files, work):
    start = time.process_time()
    for data in files:
        work(data)
    return (time.process_time() - start) * 1000 / len(files)


def main():
    with open(sys.argv[1]) as listing:
        files = [open(line.rstrip("\n"), "rb").read() for line in listing]
    print(measure(files, lambda data: decode(data)))
    for name in ("BILINEAR", "BICUBIC", "LANCZOS"):
        resample = getattr(Image.Resampling, name)
        print(measure(files, lambda data: prepare(data, resample)))


main()
