"""Draws the pictures of TRAINING.md.

usage: pictures.py generated FOLDER --out generated.png
       pictures.py restored DECODED FOLDER... --out restored.png

FOLDERs are what `vqtok decode` wrote of samples, or of several restorations (`--seed` 0, 1, 2) of
the images in DECODED.
"""

import argparse
from pathlib import Path

from PIL import Image

SCALE, GAP = 2, 2


def sheet(rows, out):
    """Pictures in rows, None where there is none."""
    side = max(picture.width for row in rows for picture in row if picture)
    step = side + GAP
    size = (step * len(rows[0]) + GAP, step * len(rows) + GAP)
    drawn = Image.new("L", size, 96)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture:
                drawn.paste(picture.convert("L"), (GAP + x * step, GAP + y * step))
    drawn.resize((size[0] * SCALE, size[1] * SCALE), Image.NEAREST).save(out, optimize=True)
    print(f"{out}: {Path(out).stat().st_size:,} bytes")


def generated(given):
    """A column for each class."""
    classes = sorted(p for p in Path(given.folder).iterdir() if p.is_dir())
    columns = [sorted(folder.glob("*.png"))[: given.count] for folder in classes]
    rows = zip(*columns)
    sheet([[Image.open(file) for file in row] for row in rows], given.out)


def restored(given):
    """An image a column: whole, its upper half, then what was drawn below it."""
    files = sorted(Path(given.folders[0]).glob("*/*.png"), key=lambda file: file.name)
    files = [file.relative_to(given.folders[0]) for file in files[: given.count]]
    whole = [Image.open(Path(given.decoded) / file.name) for file in files]
    upper = []
    for picture in whole:
        half = picture.convert("L").copy()
        half.paste(64, (0, picture.height // 2, picture.width, picture.height))
        upper.append(half)
    drawn = [[Image.open(Path(folder) / file) for file in files] for folder in given.folders]
    sheet([whole, upper, *drawn], given.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("generated")
    command.add_argument("folder")
    command.add_argument("--count", type=int, default=6)
    command.set_defaults(run=generated)
    command = commands.add_parser("restored")
    command.add_argument("decoded")
    command.add_argument("folders", nargs="+")
    command.add_argument("--count", type=int, default=10)
    command.set_defaults(run=restored)
    for command in commands.choices.values():
        command.add_argument("--out", required=True, help="a PNG file")
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
