"""Reads an output's shards with every package that is installed and knows Parquet, compares what
each sees with what pyarrow sees, and prints the table of pipelines/python/README.md.

usage: readers.py OUT [PACKAGE...]

Exits with 1 where a package reads something else or fails; one that isn't installed is left out.
"""

import importlib.metadata
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

WAYS = []


def way(package, name):
    """Registers a function that gives keys, tokens and the tokens' type in the package's words."""

    def register(function):
        WAYS.append((package, name, function))
        return function

    return register


class Output:
    def __init__(self, folder):
        folder = Path(folder)
        shards = json.loads((folder / "dataset.json").read_text())["shards"]
        self.files = [str(folder / shard["tokens"]["path"]) for shard in shards]
        tables = [pq.read_table(file, columns=["key", "tokens"]) for file in self.files]
        self.keys = [key for table in tables for key in table["key"].to_pylist()]
        self.tokens = [row for table in tables for row in table["tokens"].to_pylist()]

    def check(self, keys, tokens):
        tokens = [[int(code) for code in np.asarray(row).tolist()] for row in tokens]
        if sorted(zip(keys, tokens)) != sorted(zip(self.keys, self.tokens)):
            raise ValueError("other rows than pyarrow's")


@way("pyarrow", "dataset")
def pyarrow_dataset(files):
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(files).to_table(columns=["key", "tokens"])
    kind = str(table.schema.field("tokens").type)
    return table["key"].to_pylist(), table["tokens"].to_pylist(), kind


@way("pandas", "read_parquet")
def pandas_read(files):
    import pandas

    frame = pandas.concat([pandas.read_parquet(file) for file in files])
    return list(frame["key"]), list(frame["tokens"]), f"object of {frame['tokens'].iloc[0].dtype}"


@way("duckdb", "read_parquet")
def duckdb_read(files):
    import duckdb

    found = duckdb.sql(f"select key, tokens from read_parquet({files!r})")
    rows = found.fetchall()
    return [row[0] for row in rows], [row[1] for row in rows], str(found.types[1])


@way("polars", "scan_parquet")
def polars_read(files):
    import polars

    frame = polars.scan_parquet(files).select("key", "tokens").collect()
    return frame["key"].to_list(), frame["tokens"].to_list(), str(frame.schema["tokens"])


def hf(files, **options):
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        options["cache_dir"] = cache
        return datasets.load_dataset("parquet", data_files=files, split="train", **options)


@way("datasets", "load_dataset")
def datasets_map(files):
    found = hf(files, keep_in_memory=True)
    return found["key"][:], found["tokens"][:], str(found.features["tokens"])


@way("datasets", "columns=")
def datasets_columns(files):
    found = hf(files, keep_in_memory=True, columns=["key", "tokens"])
    return found["key"][:], found["tokens"][:], str(found.features["tokens"])


@way("datasets", "streaming")
def datasets_streaming(files):
    found = hf(files, streaming=True)
    rows = list(found)
    kind = str(found.features["tokens"])
    return [row["key"] for row in rows], [row["tokens"] for row in rows], kind


@way("datasets", "with_format('torch')")
def datasets_torch(files):
    import torch

    found = hf(files, keep_in_memory=True)
    rows = found.select_columns(["tokens"]).with_format("torch")["tokens"][:]
    rows = rows if isinstance(rows, torch.Tensor) else torch.stack(list(rows))
    return found["key"][:], rows.to(torch.int64).numpy(), f"{rows.dtype} {tuple(rows.shape[1:])}"


@way("ray", "data.read_parquet")
def ray_read(files):
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    found = ray.data.read_parquet(files).select_columns(["key", "tokens"])
    kind = str(dict(zip(found.schema().names, found.schema().types))["tokens"])
    rows = found.take_all()
    ray.shutdown()
    return [row["key"] for row in rows], [row["tokens"] for row in rows], kind


@way("pyspark", "read.parquet")
def spark_read(files):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    found = session.read.parquet(*files).select("key", "tokens")
    kind = found.schema["tokens"].dataType.simpleString()
    rows = found.collect()
    session.stop()
    return [row["key"] for row in rows], [row["tokens"] for row in rows], kind


@way("pylance", "write_dataset and back")
def lance_read(files):
    import lance
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        table = pa.concat_tables([pq.read_table(file) for file in files])
        found = lance.write_dataset(table, os.path.join(folder, "tokens.lance")).to_table()
    kind = str(found.schema.field("tokens").type)
    return found["key"].to_pylist(), found["tokens"].to_pylist(), kind


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    output, chosen = Output(sys.argv[1]), sys.argv[2:]
    print("| package | version | way | tokens | |\n|---|---|---|---|---|")
    failed = False
    for package, name, read in WAYS:
        found = version(package)
        if found is None or (chosen and package not in chosen):
            continue
        try:
            keys, tokens, kind = read(output.files)
            output.check(keys, tokens)
            said = "reads every row"
        except ImportError as error:
            kind, said = "", f"left out: {error}"
        except Exception as error:  # whatever a package raises is what the table says
            first = (str(error).splitlines() or [""])[0]
            kind, said, failed = "", f"fails: {type(error).__name__}: {first[:100]}", True
        print(f"| {package} | {found} | {name} | {kind.replace('|', '/')} | {said} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
