"""Reads exports of one output with the trainers' own loaders and compares order, labels, types, shapes
and splits with the Parquet shards. Usage: python tests/interop/read_exports.py OUT EXPORT...

OUT is an output of vqtok in which every image has a label; each EXPORT a folder that `vqtok export`
wrote of it in the plan's order (with or without --split, --views flips). The format is the one that
its export.json names. A loader that isn't installed costs a line. For Megatron give
MEGATRON_INDEXED_DATASET=indexed_dataset.py, the file of megatron-core that has the class.

Exits non-zero with the first thing that is otherwise.
"""

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import types
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def rows_of(out):
    """The rows of an output: key, view, label, caption, tokens as (height, width)."""
    tables = [pq.read_table(path) for path in sorted(Path(out).glob("tokens/*.parquet"))]
    rows = []
    for row in pa.concat_tables(tables).to_pylist():
        shape = (row["grid_height"], row["grid_width"])
        grid = np.array(row["tokens"], dtype=np.int64).reshape(shape)
        rows.append({k: row[k] for k in ("key", "view", "label", "caption")} | {"grid": grid})
    views = any(row["view"] for row in rows)
    for row in rows:
        row["name"] = f"{row['key']}/v{row['view']}" if views else row["key"]
    return rows


def split_of(key, splits):
    """The split of a key by its hash, as src/export/split.rs says."""
    purpose = b"vqtok split"
    digest = hashlib.sha256(len(purpose).to_bytes(8, "little") + purpose + key.encode()).digest()
    place, until = int.from_bytes(digest[:8], "big") / 2.0**64, 0.0
    for name, share in splits:
        until += share
        if place < until:
            return name
    return splits[-1][0]


class Case:
    """An export, or one split of it, and the rows that it should have."""

    def __init__(self, folder, settings, rows, split):
        self.folder, self.settings, self.rows, self.split = folder, settings, rows, split
        labels = folder / "labels.json" if split is None else folder.parent / "labels.json"
        self.ids = json.loads(labels.read_text())
        assert list(self.ids) == sorted(self.ids), "labels aren't sorted"
        self.codes = settings["codes_of_model"]

    def classes(self):
        return [self.ids[row["label"]] for row in self.rows]

    def sequence(self, row):
        s = self.settings
        head = [] if s["bos"] is None else [s["bos"]]
        if s["class_tokens"] is not None:
            head.append(s["class_tokens"] + self.ids[row["label"]])
        tail = [] if s["eos"] is None else [s["eos"]]
        return head + (row["grid"].ravel() + s["vocab_offset"]).tolist() + tail

    def sequences(self):
        return [self.sequence(row) for row in self.rows]

    def narrow(self):
        largest = max(max(ids) for ids in self.sequences())
        largest = max(largest, self.codes - 1 + self.settings["vocab_offset"])
        return np.dtype("u1" if largest < 1 << 8 else "u2" if largest < 1 << 16 else "u4")

    def flat(self):
        return np.dtype("u2" if self.narrow().itemsize < 4 else "u4")

    def images(self):
        """Rows of an image together."""
        images = {}
        for row in self.rows:
            images.setdefault(row["key"], []).append(row)
        return list(images.values())


def equal(found, expected, what):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected), f"{what}: {len(found)} of {len(expected)}"
    for at, (a, b) in enumerate(zip(found, expected)):
        same = np.array_equal(a, b) if isinstance(b, (np.ndarray, list)) else a == b
        assert same, f"{what} of row {at}: {a}, not {b}"


def grids(case):
    return [row["grid"] for row in case.rows]


def captions(case):
    return [row["caption"] or "" for row in case.rows]


def webdataset(case):
    import webdataset as wds

    tars = sorted(str(path) for path in case.folder.glob("tokens-*.tar"))
    samples = list(wds.WebDataset(tars, shardshuffle=False).decode())
    equal([s["tokens.npy"] for s in samples], grids(case), "tokens")
    assert samples[0]["tokens.npy"].dtype == case.narrow()
    equal([s["cls"] for s in samples], case.classes(), "cls")
    equal([s["json"]["key"] for s in samples], [row["name"] for row in case.rows], "key")
    if "txt" in samples[0]:
        equal([s["txt"] for s in samples], captions(case), "txt")
    return f"webdataset {version('webdataset')}"


def megatron(case):
    path = os.environ.get("MEGATRON_INDEXED_DATASET")
    if not path:
        raise ModuleNotFoundError("megatron (MEGATRON_INDEXED_DATASET isn't set)")
    # Its file names other modules of the package for storage and messages only.
    class Anything(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    names = ["megatron.core", "megatron.core.msc_utils", "megatron.core.utils"]
    names += ["megatron.core.datasets", "megatron.core.datasets.utils_s3"]
    names += ["megatron.core.datasets.object_storage_utils", "megatron.core.datasets.utils"]
    for name in ["megatron"] + names:
        sys.modules.setdefault(name, Anything(name))
    helper = sys.modules["megatron.core.datasets.object_storage_utils"]
    helper.is_object_storage_path = lambda path: False
    sys.modules["megatron.core.msc_utils"].MultiStorageClientFeature = types.SimpleNamespace(
        is_enabled=lambda: False
    )
    sys.modules["megatron.core.utils"].log_single_rank = lambda *a, **k: None
    spec = importlib.util.spec_from_file_location("indexed_dataset", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.IndexedDataset(str(case.folder / "tokens"))
    equal([data[i] for i in range(len(data))], case.sequences(), "sequence")
    assert data[0].dtype == (np.uint16 if case.flat() == np.uint16 else np.int32)
    assert np.array_equal(data.document_indices, np.arange(len(case.rows) + 1))
    return "megatron-core's IndexedDataset"


def jsonl(case):
    lines = [json.loads(line) for line in (case.folder / "tokens.jsonl").read_text().splitlines()]
    equal([line["tokens"] for line in lines], case.sequences(), "tokens")
    if "class_id" in lines[0]:
        equal([line["class_id"] for line in lines], case.classes(), "class_id")
    return "json"


def bare(case):
    skip = 1024 if case.settings.get("header") else 0
    if skip:
        head = np.fromfile(case.folder / "tokens.bin", dtype="<i4", count=256)
        assert head[0] == 20240520 and head[1] == 1 and not head[3:].any(), head
        assert head[2] == sum(map(len, case.sequences())), head[2]
    found = np.memmap(case.folder / "tokens.bin", dtype=case.flat(), mode="r", offset=skip)
    assert np.array_equal(found, np.concatenate(case.sequences()))
    return f"numpy {np.__version__}"


def datatrove(case):
    from datatrove.utils.dataset import DatatroveFileDataset

    expected = case.sequences()
    length = len(expected[0])
    width = case.flat().itemsize
    data = DatatroveFileDataset(
        str(case.folder / "00000_tokens.ds"), seq_len=length - 1, token_size=width
    )
    # Windows of one row each.
    equal([data[i]["input_ids"].tolist() for i in range(len(data))], expected, "input_ids")
    return f"datatrove {version('datatrove')}"


def litdata(case):
    from litdata import StreamingDataset
    from litdata.streaming import TokensLoader

    expected = case.sequences()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LITDATA_CACHE_DIR"] = cache
        loader = TokensLoader(block_size=len(expected[0]))
        data = StreamingDataset(str(case.folder), item_loader=loader, shuffle=False)
        equal([data[i].tolist() for i in range(len(data))], expected, "block")
    return f"litdata {version('litdata')}"


def mds(case):
    from streaming import StreamingDataset

    data = StreamingDataset(local=str(case.folder), shuffle=False, batch_size=1)
    rows = [data[i] for i in range(len(data))]
    equal([row["tokens"] for row in rows], grids(case), "tokens")
    assert rows[0]["tokens"].dtype == case.narrow()
    equal([row["label_id"] for row in rows], case.classes(), "label_id")
    equal([row["key"] for row in rows], [row["name"] for row in case.rows], "key")
    return f"mosaicml-streaming {version('mosaicml-streaming')}"


def hf(case):
    import datasets

    data = datasets.load_from_disk(str(case.folder if case.split is None else case.folder.parent))
    if case.split is not None:
        data = data[case.split]
    equal([row["tokens"] for row in data], case.sequences(), "tokens")
    equal(data["label"], case.classes(), "label")
    names = data.features["label"].names
    equal([names[i] for i in data["label"]], [row["label"] for row in case.rows], "name")
    equal(data["key"], [row["name"] for row in case.rows], "key")
    stored = np.dtype(data.features["tokens"].feature.dtype)
    assert stored == case.narrow() and len(data.with_format("torch")[0]["tokens"].shape) == 1
    return f"datasets {version('datasets')}"


def tfrecord(case):
    from tfrecord.reader import tfrecord_loader

    rows = []
    for path in sorted(case.folder.glob("*.tfrecord")):
        rows += list(tfrecord_loader(str(path), None))
    equal([row["tokens"] for row in rows], case.sequences(), "tokens")
    equal([int(row["label"][0]) for row in rows], case.classes(), "label")
    equal([bytes(row["key"]).decode() for row in rows], [row["name"] for row in case.rows], "key")
    equal([int(row["grid_height"][0]) for row in rows], [g.shape[0] for g in grids(case)], "height")
    return f"tfrecord {version('tfrecord')}"


def npy(case):
    tokens = np.load(case.folder / "tokens.npy", mmap_mode="r")
    assert tokens.dtype == case.narrow() and np.array_equal(tokens, np.stack(grids(case)))
    labels = np.load(case.folder / "labels.npy")
    assert labels.dtype == np.int64
    equal(labels, case.classes(), "label")
    lines = (case.folder / "rows.jsonl").read_text().splitlines()
    equal([json.loads(line)["key"] for line in lines], [row["name"] for row in case.rows], "key")
    return f"numpy {np.__version__}"


def llamagen(case):
    (codes,) = case.folder.glob("imagenet*_codes")
    labels = codes.with_name(codes.name.replace("_codes", "_labels"))
    images = case.images()
    assert len(list(codes.iterdir())) == len(list(labels.iterdir())) == len(images)
    for at, views in enumerate(images):
        # As its CustomDataset does.
        found, label = np.load(codes / f"{at}.npy"), np.load(labels / f"{at}.npy")
        assert found.dtype == np.int64 and found.shape[:2] == (1, len(views)), found.shape
        assert np.array_equal(found[0], [row["grid"].ravel() for row in views]), at
        assert label.dtype == np.int64 and label.tolist() == [case.ids[views[0]["label"]]], at
    return f"numpy {np.__version__}"


def emu3(case):
    import torch

    listed = json.loads((case.folder / "list/train.json").read_text())
    rows = [torch.load(case.folder / listed["prefix"] / path) for path in listed["path_list"]]
    equal([row["images"].numpy() for row in rows], grids(case), "images")
    assert rows[0]["images"].dtype == torch.int64
    equal([row["name"] for row in rows], [row["name"] for row in case.rows], "name")
    equal([row["texts"] for row in rows], captions(case), "texts")
    return f"torch {torch.__version__}"


def four_m(case):
    import webdataset as wds

    def samples(folder):
        tars = sorted(str(path) for path in folder.glob("shard-*.tar"))
        return list(wds.WebDataset(tars, shardshuffle=False).decode())

    (tokens,) = case.folder.glob("tok_rgb*")
    images, found = case.images(), samples(tokens)
    expected = [np.stack([row["grid"].ravel() for row in views]) for views in images]
    equal([sample["npy"] for sample in found], expected, "tokens")
    assert found[0]["npy"].dtype == (np.int16 if case.codes <= 1 << 15 else np.int32)
    crops = samples(case.folder / "crop_settings")
    equal([s["__key__"] for s in crops], [s["__key__"] for s in found], "key")
    assert all(s["npy"].shape == (len(images[0]), 5) for s in crops)
    return f"webdataset {version('webdataset')}"


def open_muse(case):
    import webdataset as wds

    tars = sorted(str(path) for path in case.folder.glob("tokens-*.tar"))
    samples = list(wds.WebDataset(tars, shardshuffle=False).decode())
    name = next(field for field in samples[0] if field.endswith(".pth"))
    equal([s[name].numpy() for s in samples], [g.ravel() for g in grids(case)], "tokens")
    equal([s["json"]["caption"] for s in samples], [row["caption"] for row in case.rows], "caption")
    return f"webdataset {version('webdataset')}"


READERS = {
    "webdataset": webdataset,
    "megatron": megatron,
    "jsonl": jsonl,
    "bin": bare,
    "datatrove": datatrove,
    "litdata": litdata,
    "mds": mds,
    "hf": hf,
    "tfrecord": tfrecord,
    "npy": npy,
    "llamagen": llamagen,
    "emu3": emu3,
    "4m": four_m,
    "open-muse": open_muse,
}


def cases_of(folder, rows, codes):
    record = json.loads((folder / "export.json").read_text())
    assert record["finished"] and record["settings"]["order"] == "plan"
    settings = record["settings"] | {"codes_of_model": codes}
    if settings["split"] is None:
        return settings, [Case(folder, settings, rows, None)]
    shares = [part.split("=") for part in settings["split"].split(",")]
    splits = [(name, float(share)) for name, share in shares]
    places = [split_of(row["key"], splits) for row in rows]
    chosen = {n: [row for row, place in zip(rows, places) if place == n] for n, _ in splits}
    return settings, [Case(folder / n, settings, chosen[n], n) for n, _ in splits if chosen[n]]


def main():
    out, folders = Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]]
    rows = rows_of(out)
    assert all(row["label"] is not None for row in rows), "an image has no label"
    codes = json.loads((out / "dataset.json").read_text())["identity"]["tokenizer"]["codes"]
    skipped = 0
    for folder in folders:
        settings, cases = cases_of(folder, rows, codes)
        try:
            read = [READERS[settings["to"]](case) for case in cases]
        except ModuleNotFoundError as error:
            skipped += 1
            print(f"skipped {folder.name}: {error}")
            continue
        count = sum(len(case.rows) for case in cases)
        print(f"{folder.name}: {count} rows in {len(cases)} part(s) by {read[0]}")
    print(f"{len(folders) - skipped} passed, 0 failed, {skipped} skipped")


if __name__ == "__main__":
    main()
