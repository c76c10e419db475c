"""Reads an output of vqtok with pyarrow, pandas, duckdb and polars, and checks what each sees:
types, values, accounting, hashes. Usage: python tests/interop/read_output.py OUT

Exits non-zero with the first thing that is not as schemas/*.json say.
"""

import glob
import hashlib
import itertools
import json
import struct
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
TYPES = {
    "utf8": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "binary": pa.binary(),
    "fixed_size_binary[16]": pa.binary(16),
    "fixed_size_binary[32]": pa.binary(32),
}


def suffixes(levels):
    """What the names of each level's columns end with."""
    return [""] + [beside(level, n) for n, level in enumerate(levels[1:], 1)]


def beside(level, n):
    for kind in ("residual", "book"):
        if kind in level:
            return f"_{kind}_{n}"
    return "_top"


def values_of(level):
    """Values of a token: 1, or how many bits it is a list of."""
    return level["bits"] if "bits" in level and level["codes"] == 2 else 1


def tokens_of(values, level):
    """Tokens as numbers, or as tuples of bits."""
    bits = values_of(level)
    return list(zip(*[iter(values)] * bits, strict=True)) if bits > 1 else values


def bits_of(token, level):
    """(bit, value) of a token whose bits are counted."""
    if isinstance(token, tuple):
        return list(enumerate(token))
    return [(bit, token >> bit & 1) for bit in range(level["bits"])]


def described(word, levels):
    columns = json.loads((SCHEMAS / f"{word}.json").read_text())["columns"]
    residual, books = (sum(kind in level for level in levels) for kind in ("residual", "book"))
    numbers = {
        None: [0],
        "a top level": range(len(levels) - 1 - residual - books),
        "residual levels": range(1, residual + 1),
        "further books": range(1, books + 1),
    }
    found = []
    for only, group in itertools.groupby(columns, lambda c: c.get("only_with")):
        group = list(group)
        for n in numbers[only]:
            found += [c | {"name": c["name"].replace("<n>", str(n))} for c in group]
    return found


def check_schema(schema, word, identity):
    levels = identity["levels"]
    columns = described(word, levels)
    assert schema.names == [c["name"] for c in columns], schema.names
    for column in columns:
        field = schema.field(column["name"])
        assert field.nullable == column["nullable"], field
        if column["type"] != "tokens":
            assert field.type == TYPES[column["type"]], field
            continue
        level = levels[suffixes(levels).index(column["name"].removeprefix("tokens"))]
        kind = pa.uint16() if level["codes"] <= 65536 else pa.uint32()
        kind = pa.uint8() if values_of(level) > 1 else kind
        item = pa.field("element", kind, nullable=False)
        if level["grid"]:
            assert field.type == pa.list_(item, level["grid"][0] * level["grid"][1] * values_of(level)), field
        else:
            assert field.type == pa.list_(item), field


def check_rows(table, levels, classes):
    for row in table.to_pylist():
        assert len(row["content_sha256"]) == 32
        if "label_id" in row:
            known = classes is not None and row["label"] is not None
            assert row["label_id"] == (classes.index(row["label"]) if known else None), row["key"]
        data = b""
        for suffix, level in zip(suffixes(levels), levels, strict=True):
            tokens, height, width = f"tokens{suffix}", f"grid{suffix}_height", f"grid{suffix}_width"
            assert len(row[tokens]) == row[height] * row[width] * values_of(level)
            data += struct.pack(f"<{len(row[tokens])}I", *row[tokens])
            data += struct.pack("<II", row[height], row[width])
        assert hashlib.sha256(data).digest()[:16] == row["grid_hash"], row["key"]
        assert len(set(tokens_of(row["tokens"], levels[0]))) == row["unique_codes"], row["key"]


def plans(dataset):
    return [dataset["plan"], *dataset.get("appended", [])]


def plan_of(dataset, partition):
    """The plan that a partition is of."""
    return [p for p in plans(dataset) if p.get("first_partition", 0) <= partition][-1]


def classes_of(out, dataset, partition):
    """The class names of the plan that a partition is of; None where there are none or too many."""
    file = pq.ParquetFile(out / plan_of(dataset, partition)["file"]["path"])
    return json.loads(file.metadata.metadata.get(b"vqtok.classes", b"null"))


def check_features(schema, classes):
    """What `datasets` reads: every column in order, the classes by their names."""
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names, list(features)
    if classes:
        assert features["label_id"] == {"names": classes, "_type": "ClassLabel"}
    else:
        assert features["label_id"] == {"dtype": "int64", "_type": "Value"}


def check_plan(out, described_as, dataset):
    """Columns and digest of a plan; its ordinals."""
    file = pq.ParquetFile(out / described_as["file"]["path"])
    metadata = file.schema_arrow.metadata
    word = metadata[b"vqtok.schema"].decode()
    check_schema(file.schema_arrow, word, dataset["identity"])
    digest = hashlib.sha256(word.encode() + b"\n" + metadata[b"vqtok.identity"] + b"\n")
    if "first_partition" in described_as:
        digest.update(metadata[b"vqtok.after"] + b"\n" + metadata[b"vqtok.first_partition"] + b"\n")
    ordinals = []
    for group in range(file.num_row_groups):
        for i, row in enumerate(file.read_row_group(group).to_pylist()):
            if word != "plan.v1":
                digest.update(bytes([i == 0]))
            digest_row(digest, row, word)
            ordinals.append(row["ordinal"])
    assert digest.hexdigest() == described_as["digest"]
    assert len(ordinals) == described_as["rows"]
    return ordinals


def digest_row(digest, row, word):
    digest.update(struct.pack("<q", row["ordinal"]))
    for text in (row["key"].encode(), row["uri"].encode()):
        digest.update(struct.pack("<Q", len(text)) + text)
    digest.update(struct.pack("<q", row["bytes"]))
    if word == "plan.v1":
        return
    for name in ("member", "offset", "label", "caption", "meta_json", "fault"):
        value = row[name]
        digest.update(bytes([value is not None]))
        if isinstance(value, int):
            digest.update(struct.pack("<q", value))
        elif value is not None:
            digest.update(struct.pack("<Q", len(value.encode())) + value.encode())
    digest.update(bytes([row["forward"]]))
    if word == "plan.v3":
        digest.update(struct.pack("<qII", row["position"], row["bucket_width"], row["bucket_height"]))


def with_pyarrow(out, dataset):
    identity = dataset["identity"]
    tables = []
    for shard in dataset["shards"]:
        for kind in ("tokens", "failures", "codebook"):
            file = out / shard[kind]["path"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == shard[kind]["sha256"], file
        shard_file = pq.ParquetFile(out / shard["tokens"]["path"])
        metadata = shard_file.schema_arrow.metadata
        check_schema(shard_file.schema_arrow, metadata[b"vqtok.schema"].decode(), identity)
        classes = classes_of(out, dataset, shard["partition"])
        if metadata[b"vqtok.schema"] != b"tokens.v1":
            check_features(shard_file.schema_arrow, classes)
        assert json.loads(metadata[b"vqtok.identity"]) == identity
        assert metadata[b"vqtok.plan_sha256"].decode() == plan_of(dataset, shard["partition"])["digest"]
        table = shard_file.read()
        assert table.num_rows == shard["rows"]
        check_rows(table, identity["levels"], classes)
        tables.append(table)
    of_bits = "bits" in identity["levels"][0]
    word = "codebook.v2" if of_bits else "codebook.v1"
    check_schema(pq.read_schema(out / "codebook.parquet"), word, identity)
    whole = pa.concat_tables(tables)
    failures = pq.read_table(out / "failures")
    check_schema(failures.schema, "failures.v1", identity)
    ordinals = []
    for plan in plans(dataset):
        ordinals += check_plan(out, plan, dataset)
    assert ordinals == list(range(dataset["totals"]["planned"]))
    known = sorted(set(whole["ordinal"].to_pylist()) | set(failures["ordinal"].to_pylist()))
    assert known == ordinals
    assert not set(whole["ordinal"].to_pylist()) & set(failures["ordinal"].to_pylist())
    counts = {}
    level = identity["levels"][0]
    for tokens in whole["tokens"].to_pylist():
        for token in tokens_of(tokens, level):
            for counted in bits_of(token, level) if of_bits else [token]:
                counts[counted] = counts.get(counted, 0) + 1
    book = [r for r in pq.read_table(out / "codebook.parquet").to_pylist() if r["level"] == 0]
    place = (lambda r: (r["bit"], r["value"])) if of_bits else (lambda r: r["code"])
    assert {place(r): r["count"] for r in book if r["count"]} == counts
    if of_bits:
        assert len(book) == 2 * level["bits"]
    return whole


def main(folder):
    out = Path(folder)
    dataset = json.loads((out / "dataset.json").read_text())
    whole = with_pyarrow(out, dataset)
    rows, keys = whole.num_rows, whole["key"].to_pylist()
    tokens = whole["tokens"].to_pylist()
    shards = sorted(glob.glob(str(out / "tokens/*.parquet")))

    frame = pandas.concat([pandas.read_parquet(s) for s in shards], ignore_index=True)
    assert len(frame) == rows and list(frame["key"]) == keys
    assert all(list(a) == b for a, b in zip(frame["tokens"], tokens))

    layout = dataset["identity"]["levels"][0]
    wide, grid, bits = layout["codes"] > 65536, layout["grid"], values_of(layout)
    word = "UTINYINT[" if bits > 1 else "UINTEGER[" if wide else "USMALLINT["
    relation = duckdb.sql(
        f"select key, tokens from read_parquet('{out}/tokens/*.parquet') order by ordinal, view"
    )
    assert str(relation.types[1]).startswith(word), relation.types
    found = relation.fetchall()
    assert [k for k, _ in found] == keys and [list(t) for _, t in found] == tokens
    used = duckdb.sql(
        f"select count(distinct code), count(*) from (select unnest(tokens) as code "
        f"from read_parquet('{out}/tokens/*.parquet'))"
    ).fetchall()[0]
    level = dataset["codebook"]["levels"][0]
    if "bits" not in level:
        assert used == (level["used"], level["tokens"]), used
    else:
        assert used[1] == level["tokens"] * bits
        book = duckdb.sql(
            f"select bit, min(count) > 0, sum(count) from '{out}/codebook.parquet' "
            "where level = 0 group by bit order by bit"
        ).fetchall()
        assert [bit for bit, _, _ in book] == list(range(level["bits"]))
        assert {tokens for _, _, tokens in book} == {level["tokens"]}
        assert sum(varies for _, varies, _ in book) == level["bits_varying"]

    lazy = polars.read_parquet(shards)
    inner = polars.UInt8 if bits > 1 else polars.UInt32 if wide else polars.UInt16
    kind = polars.Array(inner, grid[0] * grid[1] * bits) if grid else polars.List(inner)
    assert lazy.schema["tokens"] == kind, lazy.schema["tokens"]
    assert lazy["key"].to_list() == keys
    assert [list(t) for t in lazy["tokens"].to_list()] == tokens
    print(f"pyarrow, pandas, duckdb and polars read {rows} rows, {level['tokens']} tokens alike")


if __name__ == "__main__":
    main(sys.argv[1])
