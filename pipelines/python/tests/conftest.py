"""Outputs of the real program: VQTOK_BIN names it, else it is the one that is installed."""

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
