"""Loads an output's shards with Hugging Face's `datasets`: whole, some columns, streaming, as numpy.
Usage: python tests/interop/read_with_datasets.py OUT

Takes the version that is installed. Exits non-zero with the first thing that isn't as it should be.
"""

import glob
import json
import sys
import tempfile
from pathlib import Path

import datasets
import numpy
import pyarrow.parquet as pq


def main(folder):
    out = Path(folder)
    dataset = json.loads((out / "dataset.json").read_text())
    shards = sorted(glob.glob(str(out / "tokens/*.parquet")))
    truth = pq.read_table(shards)
    rows, classes = truth.num_rows, dataset.get("classes")
    grid, codes = dataset["identity"]["levels"][0]["grid"], dataset["identity"]["tokenizer"]["codes"]
    with tempfile.TemporaryDirectory() as cache:
        load = lambda **more: datasets.load_dataset(
            "parquet", data_files=shards, split="train", cache_dir=cache, **more
        )
        whole = load()
        assert whole.num_rows == rows and whole.column_names == truth.column_names
        assert whole["key"][:] == truth["key"].to_pylist()
        assert [list(t) for t in whole["tokens"][:]] == truth["tokens"].to_pylist()
        assert whole["content_sha256"][:] == truth["content_sha256"].to_pylist()
        feature = whole.features["label_id"]
        if classes:
            assert isinstance(feature, datasets.ClassLabel) and feature.names == classes, feature
            named = [None if i is None else feature.int2str(i) for i in whole["label_id"][:]]
            assert named == truth["label"].to_pylist()
        else:
            assert feature == datasets.Value("int64"), feature
        length = grid[0] * grid[1] if grid else -1
        tokens = whole.features["tokens"]
        assert getattr(tokens, "length", -1) == length, tokens
        assert tokens.feature.dtype == ("uint16" if codes <= 65536 else "uint32"), tokens

        few = load(columns=["key", "tokens", "label_id"])
        assert few.column_names == ["key", "tokens", "label_id"] and few.num_rows == rows

        stream = list(load(streaming=True))
        assert [row["key"] for row in stream] == truth["key"].to_pylist()
        assert [list(row["tokens"]) for row in stream] == truth["tokens"].to_pylist()
        assert [row["label_id"] for row in stream] == truth["label_id"].to_pylist()

        arrays = whole.select_columns(["tokens"]).with_format("numpy")[:]["tokens"]
        if grid:
            assert arrays.shape == (rows, length) and arrays.dtype.kind in "iu", arrays.dtype
        assert [list(map(int, t)) for t in arrays] == truth["tokens"].to_pylist()
    print(f"datasets {datasets.__version__}: {rows} rows, {len(classes or [])} classes, "
          f"tokens of length {length}")


if __name__ == "__main__":
    main(sys.argv[1])
