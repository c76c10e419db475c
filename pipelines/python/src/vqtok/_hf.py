"""Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import pyarrow as pa


def _feature(field: pa.Field, classes: Sequence[str]) -> Any:
    kind = field.type
    if field.name == "label_id" and classes:
        return datasets.ClassLabel(names=list(classes))
    if pa.types.is_fixed_size_list(kind):
        inner = datasets.Value(str(kind.value_type))
        return datasets.Sequence(inner, length=kind.list_size)
    if pa.types.is_list(kind):
        return datasets.Sequence(datasets.Value(str(kind.value_type)))
    names = {"float": "float32", "double": "float64"}
    return datasets.Value(names.get(str(kind), str(kind)))


def dataset(table: pa.Table, classes: Sequence[str]) -> datasets.Dataset:
    """Give the table as a data set."""
    features = datasets.Features({field.name: _feature(field, classes) for field in table.schema})
    # Its fields are nullable, and it says of each what it is, in the schema's metadata.
    schema = features.arrow_schema
    arrays = [table[field.name].cast(field.type) for field in schema]
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(arrays, schema=schema)))
