"""Row groups as numpy sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NULLS: dict[str, Any] = {"integer": -1, "floating": float("nan"), "text": ""}


class Block:
    """Some rows, decoded: `column(name)[row]` is what a row has there."""

    def __init__(self, table: pa.Table) -> None:
        """Of a row group."""
        self.rows = table.num_rows
        self.columns = [_decoded(table[name]) for name in table.column_names]
        self.bytes = table.nbytes

    def row(self, number: int) -> tuple[Any, ...]:
        """Give a row's values: an array each for tokens, numbers and texts for others."""
        return tuple(column[number] for column in self.columns)


class _Lists(Sequence[Any]):
    """Arrays of different lengths."""

    def __init__(self, values: Any, offsets: Any) -> None:
        self.values, self.offsets = values, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: Any) -> Any:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


def _decoded(column: pa.ChunkedArray) -> Any:
    """Give a column as something that is indexed by row."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, kind.list_size)
    if pa.types.is_list(kind):
        values = array.values.to_numpy(zero_copy_only=False)
        return _Lists(values, array.offsets.to_numpy())
    if pa.types.is_integer(kind):
        return _filled(array, "integer").tolist()
    if pa.types.is_floating(kind):
        return _filled(array, "floating").tolist()
    if pa.types.is_string(kind):
        return pc.fill_null(array, NULLS["text"]).to_pylist()
    return array.to_pylist()


def _filled(array: pa.Array, kind: str) -> Any:
    filled = pc.fill_null(array, NULLS[kind]) if array.null_count else array
    return np.asarray(filled.to_numpy(zero_copy_only=False))
