"""Opens the record of a training with TensorBoard's own reader and compares it with training.jsonl.
Usage: python tests/interop/read_training.py MODEL

Exits non-zero with the first thing that is not as it should be.
"""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def numbers(value, prefix):
    """The numbers of a line by tag, as the trainer names them."""
    for name, inner in value.items():
        tag = prefix + name
        if isinstance(inner, dict):
            yield from numbers(inner, tag + "/")
        elif isinstance(inner, (bool, int, float)) and tag != "step":
            yield tag, float(inner)


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main(folder):
    model = Path(folder)
    lines = [json.loads(line) for line in (model / "training.jsonl").read_text().splitlines()]
    summary = lines.pop()
    expected = {}
    for line in lines:
        if "warning" not in line:
            for tag, value in numbers(line, ""):
                expected.setdefault(tag, []).append((line["step"], float32(value)))
    for tag, value in numbers(summary, "summary/"):
        expected[tag] = [(summary["steps"], float32(value))]

    record = EventAccumulator(
        str(model / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "histograms": 0}
    )
    record.Reload()
    tags = record.Tags()
    assert sorted(tags["scalars"]) == sorted(expected), set(tags["scalars"]) ^ set(expected)
    for tag, values in expected.items():
        assert [(e.step, e.value) for e in record.Scalars(tag)] == values, tag
    assert all(e.wall_time > 1.7e9 for e in record.Scalars("loss"))

    assert tags["images"] == ["reconstructions"], tags["images"]
    pictures = [(line["step"], line["picture"]) for line in lines if "picture" in line]
    images = record.Images("reconstructions")
    assert pictures and [i.step for i in images] == [step for step, _ in pictures]
    for image, (_, name) in zip(images, pictures):
        png = image.encoded_image_string
        assert png == (model / name).read_bytes(), name
        # A PNG file begins with its signature and the header chunk.
        assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[12:16] == b"IHDR"
        assert struct.unpack(">II", png[16:24]) == (image.width, image.height)

    assert sorted(tags["histograms"]) == ["codes", "uses of a code"], tags["histograms"]
    codes = record.Histograms("codes")
    used = [step for step, _ in expected["usage"]]
    assert [h.step for h in codes] == used
    for event in codes + record.Histograms("uses of a code"):
        histogram = event.histogram_value
        assert sum(histogram.bucket) == histogram.num > 0
        assert list(histogram.bucket_limit) == sorted(set(histogram.bucket_limit))
        assert histogram.min == 0 and histogram.max == histogram.bucket_limit[-1]
    print(
        f"TensorBoard reads {sum(map(len, expected.values()))} scalars, {len(images)} pictures and "
        f"{len(codes)} histograms of the codes"
    )


if __name__ == "__main__":
    main(sys.argv[1])
