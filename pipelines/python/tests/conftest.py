"""Outputs of the real program: VQTOK_BIN names it, else it is the one that is installed."""

import json
import random
import shutil
import struct
import zlib
from pathlib import Path

import pytest

import vqtok

RECIPE = """
name = "tiny"
description = "8 steps of a VQ-VAE with 16 codes"
model = { channels = 3, codes = 16, dim = 4, architecture = { kind = "vqvae", hidden = 8, \
downsamples = 2, res_blocks = 1, res_hidden = 4 } }
data = { size = 16 }
train = { steps = 8, batch_size = 8, codebook = { start_after = 1 } }
"""

DEEP = RECIPE.replace("dim = 4,", "dim = 4, depth = 2,")


def png(shade: int, side: int = 16) -> bytes:
    """A picture of stripes that depend on `shade`."""
    lines = b"".join(
        b"\0"
        + bytes((shade * 37 + x * y * 5 + c * 40) % 256 for x in range(side) for c in range(3))
        for y in range(side)
    )

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def infinity(bits: int) -> bytes:
    """Infinity's tokenizer of so many bits with drawn weights, two pixels a token."""
    shapes: dict[str, list[int]] = {}

    def conv(name: str, out: int, into: int, side: int = 3) -> None:
        shapes[f"{name}.conv.weight"] = [out, into, side, side]
        shapes[f"{name}.conv.bias"] = [out]

    def norm(name: str, width: int) -> None:
        shapes.update({f"{name}.norm.weight": [width], f"{name}.norm.bias": [width]})

    def block(name: str, into: int, out: int) -> None:
        norm(f"{name}.norm1", into)
        conv(f"{name}.conv1", out, into)
        norm(f"{name}.norm2", out)
        conv(f"{name}.conv2", out, out)
        if into != out:
            conv(f"{name}.nin_shortcut", out, into, 1)

    sides = {
        "encoder": ([32, 3], [bits, 64], {"down.0": [(32, 32)], "down.1": [(32, 64)]}),
        "decoder": (
            [64, bits],
            [3, 32],
            {"up.1": [(64, 64), (64, 64)], "up.0": [(64, 32), (32, 32)]},
        ),
    }
    for side, (first, last, levels) in sides.items():
        conv(f"{side}.conv_in", *first)
        for level, blocks in levels.items():
            for number, widths in enumerate(blocks):
                block(f"{side}.{level}.block.{number}", *widths)
        for number in (1, 2):
            block(f"{side}.mid.block_{number}", 64, 64)
        norm(f"{side}.norm_out", last[1])
        conv(f"{side}.conv_out", *last)
    conv("encoder.down.0.downsample.conv", 32, 32)
    conv("decoder.up.1.upsample.conv", 64, 64)

    drawn, header, data = random.Random(bits), {}, b""
    for name, shape in shapes.items():
        count = 1
        for length in shape:
            count *= length
        values = [drawn.uniform(-0.1, 0.1) for _ in range(count)]
        if "norm" in name:
            values = [float(name.endswith("weight"))] * count
        end = len(data) + 4 * count
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
        data += struct.pack(f"<{count}f", *values)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture(scope="session")
def bits(place, tmp_path_factory):
    """Outputs whose bits are counted: tokens are numbers of 26 bits, and lists of 40."""
    root = tmp_path_factory.mktemp("bits")
    outputs = {}
    for count in (26, 40):
        model = root / f"{count}.safetensors"
        model.write_bytes(infinity(count))
        outputs[count] = root / f"out{count}"
        size = ["--size", "16", "--scales", "1x1,8x8"]
        vqtok.run(["tokenize", place / "images", "--model", model, *size, "--out", outputs[count]])
    return outputs


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with 30 images of three classes, five without one, recipes, and a model."""
    root = tmp_path_factory.mktemp("place")
    number = 0
    for folder, count in (("zebra", 10), ("ant", 8), ("bee", 7), ("", 5)):
        (root / "images" / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            (root / "images" / folder / f"{number:03}.png").write_bytes(png(number))
            number += 1
    (root / "tiny.toml").write_text(RECIPE)
    (root / "deep.toml").write_text(DEEP)
    vqtok.run(["train", root / "images", "--model", root / "model", "--recipe", root / "tiny.toml"])
    return root


@pytest.fixture(scope="session")
def output(place):
    """Its tokens, in five shards of seven images."""
    out = place / "tokens"
    summary = vqtok.tokenize(place / "images", out=out, model=place / "model", shard_rows=7)
    assert (summary.exit_code, summary.written, summary.shards) == (0, 30, 5)
    return out


@pytest.fixture
def dataset(output):
    return vqtok.open(output)


@pytest.fixture
def copied(output, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(output, tmp_path / "copy"))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a script in the program's place."""

    def put(script: str) -> Path:
        program = tmp_path / "vqtok"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("VQTOK_BIN", str(program))
        return program

    return put
