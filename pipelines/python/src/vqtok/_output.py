"""An output of `vqtok tokenize`, for reading."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ._describe import Description, Shard, describe, listed
from ._errors import MissingExtra, NotUsable
from ._folder import Folder, needed

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import pyarrow.dataset
    from torch import dtype as TorchType

    from ._torch import IterableTokens, MapTokens

LABEL_ID = "label_id"


def open(path: str | os.PathLike[str], *, partial: bool = False) -> Dataset:
    """Open an output of `vqtok tokenize`: its folder, or an address such as `s3://bucket/tokens`.

    Only its own shards are read, whatever else lies beside them.

    Args:
        path: The folder that `--out` named.
        partial: Take what is there of an unfinished output; of one that is being appended to, what
            was finished before.

    Raises:
        NotUsable: It's no output, it isn't finished, or files are missing; the message says what
            to do.
    """
    folder = Folder(os.fspath(path))
    return Dataset(folder, describe(folder, partial))


@dataclass(frozen=True)
class Level:
    """One grid of tokens that each row has: one for most models, several for hierarchical ones."""

    column: str
    """`tokens`, `tokens_top` (the coarser grid of VQ-VAE-2), `tokens_residual_<n>` or
    `tokens_book_<n>`."""
    codes: int
    """Tokens are 0 to codes - 1; 2 where a token is a list of bits."""
    grid: tuple[int, int] | None
    """(height, width) in tokens; None where it varies from row to row."""
    bits: int | None = None
    """Bits of a token where it is a list of them, since a number of so many is beyond 32 bits: the
    column holds those of a row's first token, then those of the next, so that `reshape(height,
    width, bits)` takes them apart. None where a token is a number."""


class Dataset:
    """The rows of an output: one an image, or one a view of it.

    `len()` is the number of rows. It holds no file open and can be pickled.
    """

    def __init__(self, folder: Folder, description: Description) -> None:
        """Of a folder that was looked through; `vqtok.open` makes one."""
        self._folder = folder
        self._description = description

    def __repr__(self) -> str:
        grid = f"{self.grid[0]} x {self.grid[1]}" if self.grid else "varying"
        codes = f"{self.bits} bits a token" if self.bits else f"{self.codes:,} codes"
        return f"<vqtok.Dataset {self.path}: {len(self):,} rows, grid {grid}, {codes}>"

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def path(self) -> str:
        """Its folder or address."""
        return self._folder.path

    @property
    def identity(self) -> dict[str, Any]:
        """What made it: `tokenizer`, `preprocessing`, `levels`, `version`, ..."""
        return self._description.identity

    @property
    def info(self) -> dict[str, Any] | None:
        """`dataset.json`; None where the output isn't finished."""
        return self._description.json

    @property
    def finished(self) -> bool:
        """Whether everything is there; always so unless it was opened with `partial=True`."""
        return self._description.finished

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files with its rows, in order."""
        return self._description.shards

    @property
    def files(self) -> list[str]:
        """Paths of the shards."""
        return [self._folder.join(shard.path) for shard in self.shards]

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The grids of a row, the finest first."""
        levels = []
        for number, level in enumerate(self.identity["levels"]):
            kinds = [kind for kind in ("residual", "book") if level.get(kind)]
            behind = f"_{kinds[0]}_{number}" if kinds else "_top" if number else ""
            grid = tuple(level["grid"]) if level["grid"] else None
            # Of numbers of more than 24 bits these are told as well, since they are counted.
            bits = level.get("bits") if level["codes"] == 2 else None
            levels.append(Level(f"tokens{behind}", level["codes"], grid, bits))
        return tuple(levels)

    @property
    def grid(self) -> tuple[int, int] | None:
        """(height, width) of `tokens`; None where shapes vary: each row's are in `grid_height`
        and `grid_width`.
        """
        return self.levels[0].grid

    @property
    def codes(self) -> int:
        """Size of the codebook: `tokens` are 0 to codes - 1; 2 where a token is a list of bits."""
        return self.levels[0].codes

    @property
    def bits(self) -> int | None:
        """Bits of a token where it is a list of them, else None; see `Level.bits`."""
        return self.levels[0].bits

    @cached_property
    def views(self) -> int:
        """Rows of each image."""
        rule = self.identity["preprocessing"].get("views", "")
        name, _, number = rule.partition("=")
        return {"": 1, "flips": 2, "ten-crop": 10}.get(name) or int(number)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a row's `label_id` is the place of its `label` among them."""
        told = (self.info or {}).get("classes")
        if isinstance(told, list):
            return tuple(told)
        # What is appended can add some behind those that were there.
        told = [self._told_classes(shard) for shard in self._ends]
        names = max((names for names in told if names is not None), key=len, default=None)
        return self._found_classes() if names is None else names

    def _told_classes(self, shard: Shard) -> tuple[str, ...] | None:
        """Give the classes that a shard names: none where there are too many for ids.

        None where it is of tokens.v1, which doesn't have ids.
        """
        schema = self._folder.parquet(shard.path).schema_arrow
        if LABEL_ID not in schema.names:
            return None
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
            return tuple(features[LABEL_ID]["names"])
        except (KeyError, TypeError, ValueError):
            return ()

    def _found_classes(self) -> tuple[str, ...]:
        """Give the labels that rows have, sorted by their bytes, as ImageFolder does."""
        pa = needed("Dataset.classes")
        found: set[str] = set()
        for _, group in self._groups(["label"]):
            found.update(pa.compute.unique(group["label"]).to_pylist())
        return tuple(sorted(name for name in found if name is not None))

    @property
    def _ends(self) -> tuple[Shard, ...]:
        """The first shard and the last one: between them are others like them."""
        return self.shards[:1] + self.shards[1:][-1:]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of `table()`, whatever version of vqtok wrote the shards."""
        pa = needed("Dataset.schema")
        fields = []
        if not self.shards:
            raise NotUsable(f"{self.path}: an output without a shard")
        for stored in self._folder.parquet(self.shards[-1].path).schema_arrow:
            if pa.types.is_fixed_size_binary(stored.type):
                stored = stored.with_type(pa.binary())
            if stored.name != LABEL_ID:
                fields.append(stored)
            if stored.name == "label":
                fields.append(pa.field(LABEL_ID, pa.int64()))
        return pa.schema(fields)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def _named(self, columns: Iterable[str] | None) -> list[str]:
        """Columns that were asked for, or all."""
        if columns is None:
            return self.columns
        names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        unknown = [name for name in names if name not in self.schema.names]
        if unknown:
            raise ValueError(f"no column {unknown[0]!r}; there are: {', '.join(self.columns)}")
        return names

    def _group(self, shard: Shard, group: int, names: Sequence[str]) -> pa.Table:
        """A row group, with the columns as `schema` has them."""
        pa = needed("reading shards")
        # What of an id isn't stored is looked up by its label.
        stored = ["label" if name == LABEL_ID else name for name in names]
        file = self._folder.parquet(shard.path)
        table = file.read_row_group(group, columns=list(dict.fromkeys(stored)))
        arrays = []
        for name, source in zip(names, stored):
            column = table[source]
            if name == LABEL_ID:
                column = pa.compute.index_in(column, pa.array(self.classes, pa.string()))
            arrays.append(column.cast(self.schema.field(name).type))
        return pa.table(arrays, schema=pa.schema([self.schema.field(name) for name in names]))

    def _groups(self, names: Sequence[str]) -> Iterator[tuple[Shard, pa.Table]]:
        for shard in self.shards:
            for group in range(self._folder.parquet(shard.path).metadata.num_row_groups):
                yield shard, self._group(shard, group, names)

    def table(self, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows in memory, in their order, with these columns or with all."""
        pa = needed("Dataset.table")
        names = self._named(columns)
        tables = [table for _, table in self._groups(names)]
        if not tables:
            return pa.schema([self.schema.field(name) for name in names]).empty_table()
        return pa.concat_tables(tables)

    def scanner(self, columns: Iterable[str] | None = None, **options: Any) -> pa.dataset.Scanner:
        """pyarrow's scanner, for more rows than fit in memory.

        Args:
            columns: As for `table`.
            **options: Those of `pyarrow.dataset.Scanner`: `filter`, `batch_size`, ... A filter
                takes stored columns: `label`, not `label_id`.
        """
        pa = needed("Dataset.scanner")
        names = self._named(columns)
        schema = pa.schema([field for field in self.schema if field.name != LABEL_ID])
        system, _ = self._folder.filesystem()
        paths = [f"{self._folder.filesystem()[1]}/{shard.path}" for shard in self.shards]
        files = pa.dataset.dataset(paths, schema=schema, filesystem=system, format="parquet")
        found = pa.dataset.field("label")
        chosen = {name: pa.dataset.field(name) for name in names}
        if LABEL_ID in chosen:
            place = pa.compute.index_in(found, pa.array(self.classes, pa.string()))
            chosen[LABEL_ID] = place.cast(pa.int64())
        return files.scanner(columns=chosen, **options)

    def codebook(self) -> pa.Table:
        """Give the use of every code: `level`, `code`, `count`, `distance_sum`.

        Of more than 2^24 codes the use of every bit: `bit` and its `value` in place of `code`.
        """
        needed("Dataset.codebook")
        if self.info is None:
            raise NotUsable(f"{self.path}: codebook.parquet is written when the output is finished")
        return self._folder.recorded(self.info["codebook"]["file"])

    def failures(self) -> pa.Table:
        """Give the images without tokens: `key`, `stage`, `error`, ..."""
        pa = needed("Dataset.failures")
        if self.info is None:
            raise NotUsable(f"{self.path}: `vqtok report` shows an unfinished output's failures")
        files = [shard["failures"] for shard in listed(self._folder, self.info)]
        return pa.concat_tables([self._folder.recorded(file) for file in files])

    def torch(
        self,
        columns: Sequence[str] = ("tokens", LABEL_ID),
        dtype: TorchType | None = None,
        cache_bytes: int = 1 << 30,
    ) -> MapTokens:
        """A map-style `torch.utils.data.Dataset`: `data[i]` is a dict of these columns.

        Args:
            columns: Columns of a row. Tokens are flat tensors, row by row (of lists of bits one
                behind the other); numbers are numbers, -1 or nan where null; texts are texts, empty
                where null.
            dtype: Of the tokens; int64 if None, since embeddings want that.
            cache_bytes: Decoded row groups that each process keeps. A data set that is larger than
                that is better read with `iter_torch`.
        """
        found: MapTokens = self._torch("Dataset.torch").MapTokens(self, columns, dtype, cache_bytes)
        return found

    def iter_torch(
        self,
        columns: Sequence[str] = ("tokens", LABEL_ID),
        dtype: TorchType | None = None,
        *,
        shuffle: int | None = None,
        buffer: int = 1 << 16,
        epoch: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = False,
    ) -> IterableTokens:
        """A `torch.utils.data.IterableDataset`, for data sets of any size.

        Rows are dealt to ranks and to the workers of a DataLoader: each row comes exactly once,
        however many there are, and the numbers of rows differ by one at most.

        Args:
            columns: As for `torch`.
            dtype: As for `torch`.
            shuffle: A seed, or None for the order of the output. The order follows from seed and
                epoch, and from the numbers of ranks and workers. Row groups are shuffled, rows
                within them too, and a buffer mixes those of several row groups.
            buffer: Rows that each worker holds for that.
            epoch: The first; `set_epoch` sets another, also for workers that are running.
            rank: Of this process; what torch.distributed says if None, else 0.
            world_size: Number of ranks; likewise.
            even: Leave out the last rows, fewer than `world_size`, so that all ranks get equally
                many.
        """
        data = self._torch("Dataset.iter_torch")
        order = data.Order(shuffle, buffer, epoch)
        share = data.Share.of(rank, world_size, even)
        found: IterableTokens = data.IterableTokens(self, columns, dtype, order, share)
        return found

    @staticmethod
    def _torch(what: str) -> Any:
        needed(what)
        try:
            from . import _torch
        except ImportError as error:
            raise MissingExtra(what, str(error.name), "torch") from error
        return _torch

    def hf(self, columns: Iterable[str] | None = None) -> datasets.Dataset:
        """Give a `datasets.Dataset` with these columns, in memory.

        `label_id` is a ClassLabel, tokens are sequences of fixed length where grids are equal.
        """
        needed("Dataset.hf")
        try:
            from . import _hf
        except ImportError as error:
            raise MissingExtra("Dataset.hf", "datasets", "datasets") from error
        return _hf.dataset(self.table(columns), self.classes)
