"""PyTorch's data sets. The tests that need PyTorch are skipped, by name, where it isn't there."""

import pickle
import subprocess
import sys
from collections import Counter

import pytest

import vqtok

try:
    import torch
    from torch.utils.data import DataLoader
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch isn't installed")
quietly = pytest.mark.filterwarnings("ignore:.*worker processes in total")


def ordinals(rows):
    return [row["ordinal"] for row in rows]


def batched(loader):
    return [ordinal for batch in loader for ordinal in batch["ordinal"].tolist()]


def test_without_torch_the_extra_is_named(output):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import vqtok; data = vqtok.open({str(output)!r})\n"
        "for call in (data.torch, data.iter_torch):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "Dataset.torch needs torch: pip install 'vqtok[torch]'\n"
        "Dataset.iter_torch needs torch: pip install 'vqtok[torch]'\n"
    )


@needs_torch
def test_rows_by_number(dataset):
    table = dataset.table(["tokens", "label_id"]).to_pylist()
    found = dataset.torch()
    assert len(found) == 30
    for number in (0, 6, 7, 29, -1):
        row = found[number]
        assert set(row) == {"tokens", "label_id"}
        assert row["tokens"].dtype == torch.int64 and row["tokens"].shape == (16,)
        assert row["tokens"].tolist() == table[number]["tokens"]
        expected = table[number]["label_id"]
        assert row["label_id"] == (-1 if expected is None else expected)
    for number in (30, -31):
        with pytest.raises(IndexError, match="of 30"):
            found[number]


@needs_torch
def test_every_column_can_be_taken(dataset):
    row = dataset.torch(dataset.columns)[0]
    assert list(row) == dataset.columns
    assert (row["key"], row["label"], row["caption"]) == ("025.png", "", "")
    assert (row["ordinal"], row["flip"], len(row["content_sha256"])) == (0, False, 32)
    with pytest.raises(ValueError, match="no column 'colour'"):
        dataset.torch(["colour"])


@needs_torch
def test_tokens_in_another_type(dataset):
    row = dataset.torch(dtype=torch.uint16)[3]
    assert row["tokens"].dtype == torch.uint16
    assert row["tokens"].tolist() == dataset.torch()[3]["tokens"].tolist()


@needs_torch
@quietly
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gets_batches(dataset, workers):
    loader = DataLoader(
        dataset.torch(["tokens", "label_id", "ordinal", "key"]),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
    )
    batches = list(loader)
    assert sorted(n for batch in batches for n in batch["ordinal"].tolist()) == list(range(30))
    assert batches[0]["tokens"].shape == (8, 16) and batches[0]["label_id"].dtype == torch.int64
    tokens = dataset.table(["tokens"])["tokens"].to_pylist()
    for row, ordinal in zip(batches[1]["tokens"].tolist(), batches[1]["ordinal"].tolist()):
        assert row == tokens[ordinal]


@needs_torch
def test_a_small_cache_gives_the_same_rows(dataset):
    small, large = dataset.torch(cache_bytes=1), dataset.torch()
    for number in (29, 0, 15, 1, 29):
        assert torch.equal(small[number]["tokens"], large[number]["tokens"])
    assert len(small._cache) == 1 and len(large._cache) == 3
    assert len(pickle.loads(pickle.dumps(large))._cache) == 0


@needs_torch
def test_the_order_of_the_output_unless_shuffled(dataset):
    assert ordinals(dataset.iter_torch(["ordinal"])) == list(range(30))
    assert dataset.iter_torch().rows == 30


@needs_torch
@pytest.mark.parametrize("buffer", [1, 4, 1000])
def test_a_shuffle_follows_from_seed_and_epoch(dataset, buffer):
    def order(seed, epoch):
        rows = dataset.iter_torch(["ordinal"], shuffle=seed, epoch=epoch, buffer=buffer)
        found = ordinals(rows)
        assert sorted(found) == list(range(30))
        return tuple(found)

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert len({*orders, tuple(range(30))}) == 4
    assert order(0, 1) == orders[1]
    rows = dataset.iter_torch(["ordinal"], shuffle=0, buffer=buffer)
    rows.set_epoch(1)
    assert tuple(ordinals(rows)) == orders[1]


@needs_torch
def test_a_shuffle_is_this_one(dataset):
    """Written down: a run that goes on on another machine must see the same order."""
    found = ordinals(dataset.iter_torch(["ordinal"], shuffle=7, buffer=8))
    assert found == [
        8,
        24,
        22,
        27,
        11,
        21,
        25,
        23,
        13,
        7,
        12,
        29,
        4,
        28,
        6,
        26,
        0,
        3,
        5,
        18,
        10,
        9,
        15,
        1,
        2,
        19,
        20,
        17,
        16,
        14,
    ]


@needs_torch
@quietly
@pytest.mark.parametrize("shuffle", [None, 3])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (3, 0), (2, 3), (8, 0), (40, 0)])
def test_ranks_and_workers_share_without_doubles_or_holes(dataset, shuffle, ranks, workers):
    found, counts = Counter(), []
    for rank in range(ranks):
        rows = dataset.iter_torch(
            ["ordinal"], shuffle=shuffle, buffer=5, rank=rank, world_size=ranks
        )
        mine = batched(DataLoader(rows, batch_size=3, num_workers=workers))
        assert len(mine) == rows.rows
        counts.append(len(mine))
        found.update(mine)
    assert found == Counter(range(30))
    assert max(counts) - min(counts) <= 1


@needs_torch
def test_even_ranks_get_equally_many(dataset):
    rows = [dataset.iter_torch(["ordinal"], rank=r, world_size=4, even=True) for r in range(4)]
    assert [r.rows for r in rows] == [7] * 4
    assert sorted(n for r in rows for n in ordinals(r)) == list(range(28))


@needs_torch
@quietly
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_stay_hear_of_the_next_epoch(dataset, context):
    rows = dataset.iter_torch(["ordinal"], shuffle=0)
    stay = dict(persistent_workers=True, multiprocessing_context=context)
    loader = DataLoader(rows, batch_size=5, num_workers=2, **stay)
    first = batched(loader)
    rows.set_epoch(1)
    second = batched(loader)
    assert sorted(first) == sorted(second) == list(range(30)) and first != second


@needs_torch
def test_what_makes_no_sense_is_refused(dataset):
    with pytest.raises(ValueError, match="give both or neither"):
        dataset.iter_torch(rank=0)
    with pytest.raises(ValueError, match="rank=2: must be 0 to"):
        dataset.iter_torch(rank=2, world_size=2)
    with pytest.raises(ValueError, match="world_size=0: there is at least one"):
        dataset.iter_torch(rank=0, world_size=0)
    with pytest.raises(ValueError, match="buffer=0"):
        dataset.iter_torch(buffer=0)
    for seed in (False, True, "x", 1.5):
        with pytest.raises(TypeError, match="give a seed"):
            dataset.iter_torch(shuffle=seed)
    with pytest.raises(ValueError, match="can't hold the code 15"):
        dataset.torch(dtype=torch.bool)
    with pytest.raises(TypeError, match="give one of PyTorch's"):
        dataset.torch(dtype="int32")


@needs_torch
def test_grids_that_vary_come_one_by_one(place, tmp_path):
    vqtok.tokenize(
        place / "images", out=tmp_path / "o", model=place / "model", buckets="16x16,24x16"
    )
    dataset = vqtok.open(tmp_path / "o")
    table = dataset.table(["tokens"])["tokens"].to_pylist()
    assert [row["tokens"].tolist() for row in dataset.iter_torch()] == table


@needs_torch
def test_lists_of_bits_come_apart(bits):
    data = vqtok.open(bits[40])
    row = data.torch(["tokens", "grid_height", "grid_width"], dtype=torch.uint8)[0]
    lists = row["tokens"].reshape(row["grid_height"], row["grid_width"], data.bits)
    assert lists.shape == (1, 65, 40) and lists.unique().tolist() == [0, 1]


@needs_torch
def test_levels_are_columns(place, tmp_path):
    job = dict(out=tmp_path / "o", model=tmp_path / "m", recipe=place / "deep.toml")
    vqtok.tokenize(place / "images", **job)
    dataset = vqtok.open(tmp_path / "o")
    names = [level.column for level in dataset.levels]
    row = next(iter(dataset.iter_torch(names)))
    assert [row[name].shape for name in names] == [(16,), (16,)]
    assert row["tokens_residual_1"].dtype == torch.int64
