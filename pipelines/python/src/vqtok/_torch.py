"""PyTorch's data sets."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.utils.data

from ._describe import Shard
from ._rows import Block

if TYPE_CHECKING:
    from ._output import Dataset

Row = dict[str, Any]


class _Rows:
    """The rows of an output by row group, as tensors."""

    def __init__(self, dataset: Dataset, columns: Sequence[str], dtype: torch.dtype | None) -> None:
        self.names = dataset._named(columns)
        self.is_tokens = [name.startswith("tokens") for name in self.names]
        self.dtype = torch.int64 if dtype is None else _holding(dtype, dataset)
        self._dataset = dataset
        # Known to every worker that gets a copy of this.
        if "label_id" in self.names:
            _ = dataset.classes
        self.groups: list[tuple[Shard, int]] = []
        self.starts = [0]
        for shard in dataset.shards:
            metadata = dataset._folder.parquet(shard.path).metadata
            for group in range(metadata.num_row_groups):
                self.groups.append((shard, group))
                self.starts.append(self.starts[-1] + metadata.row_group(group).num_rows)

    def __len__(self) -> int:
        return self.starts[-1]

    def group_rows(self, group: int) -> int:
        return self.starts[group + 1] - self.starts[group]

    def block(self, group: int) -> Block:
        shard, number = self.groups[group]
        return Block(self._dataset._group(shard, number, self.names))

    def tensors(self, values: Sequence[Any]) -> Row:
        """Give a row as users get it."""
        row = {}
        for name, is_tokens, value in zip(self.names, self.is_tokens, values):
            if is_tokens:
                value = torch.from_numpy(value.astype(np.int64))
                value = value if self.dtype == torch.int64 else value.to(self.dtype)
            row[name] = value
        return row


def _holding(dtype: torch.dtype, dataset: Dataset) -> torch.dtype:
    """Refuse a type in which tokens would be others."""
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype={dtype!r}: give one of PyTorch's, such as torch.int32")
    last = max(level.codes for level in dataset.levels) - 1
    if dtype == torch.bool or int(torch.tensor(last).to(dtype)) != last:
        raise ValueError(f"dtype={dtype}: it can't hold the code {last}")
    return dtype


class MapTokens(torch.utils.data.Dataset[Row]):
    """Rows by their number; see `vqtok.Dataset.torch`."""

    def __init__(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        dtype: torch.dtype | None,
        cache_bytes: int,
    ) -> None:
        """Of an output."""
        self._rows = _Rows(dataset, columns, dtype)
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, Block] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache behind: a worker fills its own."""
        return {**self.__dict__, "_cache": OrderedDict()}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        rows = len(self)
        if not -rows <= index < rows:
            raise IndexError(f"row {index} of {rows}")
        index %= rows
        group = bisect_right(self._rows.starts, index) - 1
        values = self._block(group).row(index - self._rows.starts[group])
        return self._rows.tensors(values)

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Give a batch, with each row group looked up once."""
        found: dict[int, Row] = {}
        for place in sorted(range(len(indices)), key=indices.__getitem__):
            found[place] = self[indices[place]]
        return [found[place] for place in range(len(indices))]

    def _block(self, group: int) -> Block:
        block = self._cache.get(group)
        if block is None:
            block = self._rows.block(group)
            self._cache[group] = block
            while len(self._cache) > 1 and self._held() > self._cache_bytes:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return block

    def _held(self) -> int:
        return sum(block.bytes for block in self._cache.values())


@dataclass(frozen=True)
class Order:
    """In which order rows come."""

    seed: int | None
    buffer: int
    epoch: int

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.seed is not None and (
            isinstance(self.seed, bool) or not isinstance(self.seed, int)
        ):
            raise TypeError(f"shuffle={self.seed!r}: give a seed, or None for the output's order")
        if self.buffer < 1:
            raise ValueError(f"buffer={self.buffer}: a buffer holds at least one row")

    def draws(self, epoch: int, *what: object) -> random.Random:
        """Give random numbers that follow from the seed, the epoch and what they are for."""
        return random.Random("/".join(map(str, (self.seed, epoch, *what))))


@dataclass(frozen=True)
class Share:
    """Which rows are this process's."""

    rank: int
    world_size: int
    even: bool

    @staticmethod
    def of(rank: int | None, world_size: int | None, even: bool) -> Share:
        """Fill in what torch.distributed knows."""
        if (rank is None) != (world_size is None):
            raise ValueError("rank and world_size: give both or neither")
        if rank is None or world_size is None:
            group = torch.distributed
            known = group.is_available() and group.is_initialized()
            rank, world_size = (group.get_rank(), group.get_world_size()) if known else (0, 1)
        if world_size < 1:
            raise ValueError(f"world_size={world_size}: there is at least one")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank}: must be 0 to world_size - 1, {world_size - 1}")
        return Share(rank, world_size, even)

    def rows(self, total: int, worker: int = 0, workers: int = 1) -> tuple[int, int]:
        """Give the range of `total` rows that a worker of this process gets."""
        total -= total % self.world_size if self.even else 0
        start, stop = _part(0, total, self.rank, self.world_size)
        return _part(start, stop, worker, workers)


def _part(start: int, stop: int, index: int, parts: int) -> tuple[int, int]:
    length = stop - start
    return start + length * index // parts, start + length * (index + 1) // parts


class IterableTokens(torch.utils.data.IterableDataset[Row]):
    """Rows one after the other; see `vqtok.Dataset.iter_torch`."""

    def __init__(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        dtype: torch.dtype | None,
        order: Order,
        share: Share,
    ) -> None:
        """Of an output."""
        self._rows = _Rows(dataset, columns, dtype)
        self._order = order
        self._share = share
        # Shared, so that workers that stay for several epochs see it change.
        self._epoch = torch.tensor(order.epoch).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the iterations that begin from now on."""
        self._epoch.fill_(epoch)

    @property
    def rows(self) -> int:
        """How many rows this process gets in an epoch, all its workers together."""
        start, stop = self._share.rows(len(self._rows))
        return stop - start

    def __iter__(self) -> Iterator[Row]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        start, stop = self._share.rows(len(self._rows), number, workers)
        epoch = int(self._epoch)
        found = self._range(epoch, start, stop)
        if self._order.seed is not None:
            found = self._mixed(found, self._order.draws(epoch, "buffer", start))
        for values in found:
            yield self._rows.tensors(values)

    def _range(self, epoch: int, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Give rows `start` to `stop` of the epoch's order, which all workers agree on."""
        shuffled = self._order.seed is not None
        groups = list(range(len(self._rows.groups)))
        if shuffled:
            self._order.draws(epoch, "groups").shuffle(groups)
        ends = list(accumulate(map(self._rows.group_rows, groups)))
        for group, end in zip(groups, ends):
            length = self._rows.group_rows(group)
            first = max(start - (end - length), 0)
            last = min(stop - (end - length), length)
            if first >= last:
                continue
            places = list(range(length))
            if shuffled:
                self._order.draws(epoch, "rows", group).shuffle(places)
            block = self._rows.block(group)
            for place in places[first:last]:
                yield block.row(place)

    def _mixed(
        self, rows: Iterator[tuple[Any, ...]], draws: random.Random
    ) -> Iterator[tuple[Any, ...]]:
        """Give rows in random order, as far as a buffer reaches."""
        held: list[tuple[Any, ...]] = []
        for row in rows:
            # A copy: a view would keep its whole row group in memory.
            row = tuple(v.copy() if isinstance(v, np.ndarray) else v for v in row)
            if len(held) < self._order.buffer:
                held.append(row)
                continue
            place = draws.randrange(len(held))
            held[place], row = row, held[place]
            yield row
        draws.shuffle(held)
        yield from held
