"""What `vqtok.open` reads, and what it refuses."""

import json
import pickle
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import png

import vqtok

KEYS = [
    *(f"{number:03}.png" for number in range(25, 30)),
    *(f"ant/{number:03}.png" for number in range(10, 18)),
    *(f"bee/{number:03}.png" for number in range(18, 25)),
    *(f"zebra/{number:03}.png" for number in range(10)),
]


def test_an_output_describes_itself(dataset, output):
    assert len(dataset) == 30 and dataset.finished
    assert (dataset.grid, dataset.codes, dataset.views) == ((4, 4), 16, 1)
    assert dataset.classes == ("ant", "bee", "zebra")
    assert dataset.levels == (vqtok.Level("tokens", 16, (4, 4)),)
    assert dataset.path == str(output) and len(dataset.files) == 5
    assert dataset.identity["tokenizer"]["codes"] == 16
    assert "30 rows" in repr(dataset) and "4 x 4" in repr(dataset)
    assert pickle.loads(pickle.dumps(dataset)).classes == dataset.classes


def test_the_table_has_all_rows_in_order(dataset, output):
    table = dataset.table()
    assert table["key"].to_pylist() == sorted(KEYS, key=KEYS.index)
    assert table["ordinal"].to_pylist() == list(range(30))
    stored = pq.read_table(output / "tokens")
    assert table["tokens"].to_pylist() == stored["tokens"].to_pylist()
    assert table["tokens"].type == pa.list_(pa.field("element", pa.uint16(), nullable=False), 16)
    assert table["content_sha256"].type == pa.binary()
    assert table["content_sha256"].to_pylist() == stored["content_sha256"].to_pylist()
    assert table.column_names == dataset.columns and table.schema.equals(dataset.schema)
    place = dataset.columns.index("label")
    assert dataset.columns[place + 1] == "label_id"


def test_an_output_whose_shards_lie_in_folders_is_read(place, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("VQTOK_SCALE", "2:2")  # As if that many shards were very many.
    out = tmp_path / "large"
    vqtok.tokenize(place / "images", out=out, model=place / "model", shard_rows=7)
    monkeypatch.delenv("VQTOK_SCALE")
    large = vqtok.open(out)
    assert large.info["schema"] == "dataset.v3" and large.finished
    assert large.files[4] == str(out / "tokens" / "00002" / "part-00004.parquet")
    assert large.table() == dataset.table()
    assert large.failures().num_rows == 0
    assert pq.read_table(out / "tokens")["key"] == large.table()["key"]
    (out / "dataset.json").unlink()
    (out / "tokens" / "00001" / "part-00002.parquet").unlink()
    part = vqtok.open(out, partial=True)
    assert len(part) == 30 - 7 and len(part.files) == 4
    with pytest.raises(vqtok.NotUsable, match="4 of 5 shards"):
        vqtok.open(out)


def test_label_ids_are_places_among_the_classes(dataset):
    table = dataset.table(["label_id", "label"])
    assert table.column_names == ["label_id", "label"]
    assert table["label_id"].type == pa.int64()
    ids = {"ant": 0, "bee": 1, "zebra": 2, None: None}
    assert table["label_id"].to_pylist() == [ids[label] for label in table["label"].to_pylist()]
    assert table["label_id"].null_count == 5


def test_the_scanner_gives_the_same_rows(dataset):
    columns = ["label_id", "tokens", "content_sha256"]
    assert dataset.scanner(columns, batch_size=3).to_table().equals(dataset.table(columns))
    assert dataset.scanner().to_table().equals(dataset.table())
    some = dataset.scanner(["key"], filter=pc.field("label") == "bee").to_table()
    assert some["key"].to_pylist() == [key for key in KEYS if key.startswith("bee")]


def test_a_column_that_isnt_there_is_named(dataset):
    for read in (dataset.table, dataset.scanner):
        with pytest.raises(ValueError, match="no column 'colour'; there are: key, uri"):
            read(["key", "colour"])


def test_the_codebook_counts_every_token(dataset):
    book = dataset.codebook()
    assert book.column_names == ["level", "code", "count", "distance_sum"]
    assert pc.sum(book["count"]).as_py() == 30 * 16
    assert dataset.failures().num_rows == 0


def test_stray_files_are_nobodys_rows(copied):
    shards = copied / "tokens"
    shutil.copy(shards / "part-00000.parquet", shards / "part-00009.parquet")
    shutil.copy(shards / "part-00000.parquet", shards / "copy.parquet")
    assert len(vqtok.open(copied)) == vqtok.open(copied).table().num_rows == 30


def test_an_unfinished_output_is_refused(copied, tmp_path):
    (copied / "dataset.json").unlink()
    (copied / "tokens" / "part-00002.parquet").unlink()
    with pytest.raises(vqtok.NotUsable, match=r"unfinished, 4 of 5 shards.*partial=True"):
        vqtok.open(copied)
    part = vqtok.open(copied, partial=True)
    assert not part.finished and len(part) == 23 and part.grid == (4, 4)
    assert part.table(["ordinal"])["ordinal"].to_pylist() == [*range(14), *range(21, 30)]
    assert part.classes == ("ant", "bee", "zebra")
    with pytest.raises(vqtok.NotUsable, match=r"codebook.parquet is written when"):
        part.codebook()


def test_a_foreign_shard_of_an_unfinished_output_is_passed_over(copied, place, tmp_path):
    vqtok.tokenize(place / "images" / "bee", out=tmp_path / "bee", model=place / "model")
    (copied / "dataset.json").unlink()
    foreign = tmp_path / "bee" / "tokens" / "part-00000.parquet"
    shutil.copy(foreign, copied / "tokens" / "part-00000.parquet")
    assert len(vqtok.open(copied, partial=True)) == 23


def test_what_is_damaged_is_told(copied):
    shard = copied / "tokens" / "part-00003.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(vqtok.NotUsable, match=r"part-00003.parquet: \d+ bytes, not .*repair"):
        vqtok.open(copied)
    shard.unlink()
    with pytest.raises(vqtok.NotUsable, match=r"part-00003.parquet: it isn't there; .*repair"):
        vqtok.open(copied)
    shard.write_bytes(whole)
    description = copied / "dataset.json"
    text = description.read_text()
    description.write_text(text.replace('"rows": 30', '"rows": 31'))
    with pytest.raises(vqtok.NotUsable, match="isn't what vqtok wrote"):
        vqtok.open(copied)
    description.write_text(text[:100])
    with pytest.raises(vqtok.NotUsable, match=r"dataset.json.*`vqtok repair` makes it again"):
        vqtok.open(copied)
    description.write_text(json.dumps({"schema": "dataset.v9"}))
    with pytest.raises(vqtok.NotUsable, match=r"'dataset.v9'.*newer version"):
        vqtok.open(copied)


def test_a_plan_of_another_output_is_no_appended_one(copied):
    (copied / "plan-00001.parquet").write_bytes((copied / "plan.parquet").read_bytes())
    with pytest.raises(vqtok.NotUsable, match=r"plan-00001.parquet: it wasn't appended"):
        vqtok.open(copied)


def test_lost_failures_are_no_empty_ones(copied):
    named = sorted((copied / "failures").iterdir())
    whole = named[0].read_bytes()
    named[0].write_bytes(named[-1].read_bytes())
    with pytest.raises(vqtok.NotUsable, match=r"failures.part-0.*isn't the one in dataset.json"):
        vqtok.open(copied).failures()
    named[0].unlink()
    with pytest.raises(vqtok.NotUsable, match=r"failures.part-0.*isn't there.*vqtok repair"):
        vqtok.open(copied).failures()
    named[0].write_bytes(whole)
    assert vqtok.open(copied).failures().num_rows >= 0


def test_files_that_are_no_parquet_are_named(copied):
    shard = copied / "tokens" / "part-00003.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(vqtok.NotUsable, match=r"part-00003.parquet: .*vqtok verify"):
        vqtok.open(copied).table()
    (copied / "dataset.json").unlink()
    (copied / "plan.parquet").write_bytes(b"PAR1 no plan PAR1")
    with pytest.raises(vqtok.NotUsable, match=r"plan.parquet: .*vqtok verify"):
        vqtok.open(copied)


def test_other_folders_are_refused(output, tmp_path):
    with pytest.raises(vqtok.NotUsable, match="vqtok tokenize --out"):
        vqtok.open(tmp_path)
    with pytest.raises(vqtok.NotUsable, match="open the folder above"):
        vqtok.open(output / "tokens")
    with pytest.raises(vqtok.NotUsable, match="vqtok tokenize --out"):
        vqtok.open(tmp_path / "nowhere")


def test_appended_images_follow(place, tmp_path):
    """A new class takes a place of its own among the sorted names of tokens.v1."""
    grown = tmp_path / "images"
    shutil.copytree(place / "images", grown)
    job = dict(out=tmp_path / "out", model=place / "model", shard_rows=7, append=True)
    vqtok.tokenize(grown, **job)
    (grown / "cat").mkdir()
    for number in range(3):
        (grown / "cat" / f"{number}.png").write_bytes(png(100 + number))
    summary = vqtok.tokenize(grown, **job)
    assert summary.rows == 33
    dataset = vqtok.open(tmp_path / "out")
    assert dataset.info["schema"] == "dataset.v2" and len(dataset) == 33
    table = dataset.table(["label", "label_id"]).to_pylist()
    assert {row["label"] for row in table[30:]} == {"cat"}
    for row in table:
        assert row["label"] is None or dataset.classes[row["label_id"]] == row["label"]


def test_an_unfinished_append_is_refused(place, tmp_path):
    out = tmp_path / "out"
    job = dict(out=out, model=place / "model", append=True)
    vqtok.tokenize(place / "images" / "bee", **job)
    before = (out / "dataset.json").read_bytes()
    vqtok.tokenize(place / "images" / "ant", **job)
    (out / "dataset.json").write_bytes(before)
    with pytest.raises(vqtok.NotUsable, match="are being appended"):
        vqtok.open(out)
    part = vqtok.open(out, partial=True)
    assert len(part) == 7 and not part.finished


def test_views_are_rows(place, tmp_path):
    vqtok.tokenize(
        place / "images", out=tmp_path / "o", model=place / "model", views="random-crops=3"
    )
    dataset = vqtok.open(tmp_path / "o")
    assert (len(dataset), dataset.views) == (90, 3)
    assert dataset.table(["view"])["view"].to_pylist() == [0, 1, 2] * 30


def test_buckets_have_grids_of_their_own(place, tmp_path):
    vqtok.tokenize(
        place / "images", out=tmp_path / "o", model=place / "model", buckets="16x16,24x16"
    )
    dataset = vqtok.open(tmp_path / "o")
    assert dataset.grid is None and "varying" in repr(dataset)
    table = dataset.table(["tokens", "grid_height", "grid_width"]).to_pylist()
    assert all(len(row["tokens"]) == row["grid_height"] * row["grid_width"] for row in table)


def test_residual_levels_have_columns(place, tmp_path):
    job = dict(out=tmp_path / "o", model=tmp_path / "m", recipe=place / "deep.toml")
    vqtok.tokenize(place / "images", **job)
    dataset = vqtok.open(tmp_path / "o")
    names = ["tokens", "tokens_residual_1"]
    assert [level.column for level in dataset.levels] == names
    assert [level.grid for level in dataset.levels] == [(4, 4), (4, 4)]
    assert all(len(row["tokens_residual_1"]) == 16 for row in dataset.table(names).to_pylist())


def test_many_codes_are_counted_by_bits(bits):
    numbers, lists = (vqtok.open(bits[count]) for count in (26, 40))
    assert (numbers.codes, numbers.bits, numbers.levels[0].bits) == (1 << 26, None, None)
    assert (lists.codes, lists.bits, lists.grid) == (2, 40, (1, 65))
    assert repr(lists).endswith("30 rows, grid 1 x 65, 40 bits a token>")
    flat = [bit for row in lists.table(["tokens"])["tokens"].to_pylist() for bit in row]
    assert len(flat) == 30 * 65 * 40 and set(flat) == {0, 1}
    counted = lists.codebook().to_pylist()
    ones = {row["bit"]: row["count"] for row in counted if row["value"] == 1}
    assert ones == {bit: sum(flat[bit::40]) for bit in range(40)}
    all_of = [row for row in numbers.codebook().to_pylist() if row["bit"] == 25]
    assert sum(row["count"] for row in all_of) == 30 * 65


def test_an_output_of_failures_alone_has_no_rows(place, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    summary = vqtok.tokenize(tmp_path / "images", out=out, model=place / "model")
    assert (summary.exit_code, summary.failed) == (1, 1)
    table = vqtok.open(out).table(["key", "tokens", "label_id", "key"])
    assert (table.num_rows, table.column_names) == (0, ["key", "tokens", "label_id"])


def test_without_pyarrow_the_extra_is_named(output):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        f"import vqtok; data = vqtok.open({str(output)!r})\n"
        "assert (len(data), data.grid, data.codes) == (30, (4, 4), 16)\n"
        "try: data.table()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Dataset.table needs pyarrow: pip install 'vqtok[pyarrow]'\n"


def test_importing_it_imports_nothing_big():
    code = (
        "import sys, vqtok\n"
        "print([name for name in ('pyarrow', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
