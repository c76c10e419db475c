"""Which shards an output has: what `dataset.json` says, or of an unfinished one, its plans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._errors import NotUsable
from ._folder import Folder

DESCRIPTION = "dataset.json"
PLAN = b"vqtok.plan_sha256"
KNOWN = ("dataset.v1", "dataset.v2", "dataset.v3")


@dataclass(frozen=True)
class Shard:
    """A file with rows of tokens."""

    path: str
    """Relative to the output's folder."""
    rows: int


@dataclass(frozen=True)
class Description:
    """An output as it describes itself."""

    identity: dict[str, Any]
    """What made it: tokenizer, preprocessing, levels, version, ..."""
    shards: tuple[Shard, ...]
    finished: bool
    json: dict[str, Any] | None
    """`dataset.json`; None while there is none."""


def describe(folder: Folder, partial: bool) -> Description:
    """Find out what an output has.

    Raises:
        NotUsable: It's none, it isn't finished and `partial` is False, or files are missing.
    """
    data = folder.read(DESCRIPTION)
    if data is None:
        return _unfinished(folder, partial)
    info = _parsed(folder, data)
    appended = 1 + len(info.get("appended", []))
    unnamed = folder.size(f"plan-{appended:05}.parquet") is not None
    if unnamed:
        _must_stand_upon(folder, f"plan-{appended:05}.parquet", info)
    if unnamed and not partial:
        raise NotUsable(
            f"{folder}: images are being appended and {DESCRIPTION} doesn't have them yet: run the "
            "same `vqtok tokenize --append` again, or take what was finished before: partial=True"
        )
    shards = tuple(
        _checked(folder, shard["tokens"], shard["rows"]) for shard in listed(folder, info)
    )
    return Description(info["identity"], shards, not unnamed, info)


def _must_stand_upon(folder: Folder, name: str, info: dict[str, Any]) -> None:
    """Refuse a plan that wasn't appended to those of an output."""
    last = (info.get("appended") or [info["plan"]])[-1]["digest"]
    after = (folder.parquet(name).metadata.metadata or {}).get(b"vqtok.after", b"")
    if after.decode(errors="replace") != last:
        raise NotUsable(
            f"{folder.join(name)}: it wasn't appended to the plans beside it: "
            f"`vqtok verify {folder}` tells what is wrong"
        )


def _parsed(folder: Folder, data: bytes) -> dict[str, Any]:
    at = f"{folder.join(DESCRIPTION)}: "
    try:
        info = json.loads(data)
    except ValueError as error:
        raise NotUsable(f"{at}{error}; `vqtok repair` makes it again") from error
    if not isinstance(info, dict) or info.get("schema") not in KNOWN:
        said = info.get("schema") if isinstance(info, dict) else None
        raise NotUsable(
            f"{at}{said!r} is none of {', '.join(KNOWN)}: not an output of vqtok, or one of a "
            "newer version (pip install -U vqtok)"
        )
    before = data[: data.rfind(b"\n", 0, data.rfind(b'"self_sha256"')) + 1]
    if hashlib.sha256(before).hexdigest() != info.get("self_sha256"):
        raise NotUsable(f"{at}it isn't what vqtok wrote; `vqtok repair` makes it again")
    return info


def listed(folder: Folder, info: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give what `dataset.json` and its parts say of each partition, in order."""
    yield from info.get("shards", [])
    for part in info.get("parts", []):
        name = str(part["shards"]["path"])
        data = folder.read(name)
        if data is None or hashlib.sha256(data).hexdigest() != part["shards"]["sha256"]:
            raise NotUsable(
                f"{folder.join(name)}: it isn't the one in {DESCRIPTION}; `vqtok repair` makes it "
                "again"
            )
        yield from json.loads(data)["shards"]


def _checked(folder: Folder, file: dict[str, Any], rows: int) -> Shard:
    name, size = str(file["path"]), folder.size(file["path"])
    if size != file["bytes"]:
        state = "it isn't there" if size is None else f"{size} bytes, not {file['bytes']}"
        raise NotUsable(
            f"{folder.join(name)}: {state}; `vqtok repair {folder} --model MODEL` makes it again"
        )
    return Shard(name, rows)


def _unfinished(folder: Folder, partial: bool) -> Description:
    """Describe an output without `dataset.json`, by its plan's footer and its shards'."""
    if folder.size("plan.parquet") is None:
        raise NotUsable(_no_output(folder))
    plan = folder.parquet("plan.parquet")
    metadata = plan.metadata.metadata
    # A large plan has a row a partition, and its images elsewhere.
    large = metadata[b"vqtok.schema"] == b"plan.v4"
    partitions = plan.metadata.num_rows if large else plan.metadata.num_row_groups
    a_folder = int(metadata.get(b"vqtok.shards_a_folder", 0))
    names = [_shard(number, a_folder) for number in range(partitions)]
    there = [name for name in names if folder.size(name) is not None]
    if not partial:
        raise NotUsable(
            f"{folder}: unfinished, {len(there)} of {partitions} shards are there: run the same "
            "`vqtok tokenize` again (or `vqtok finalize` where all are), or take what is there: "
            "partial=True"
        )
    shards = []
    for name in there:
        file = folder.parquet(name)
        # A shard of another output lies in this one's place: nobody's rows.
        footer = file.metadata
        if footer.metadata.get(PLAN) == metadata[PLAN]:
            shards.append(Shard(name, footer.num_rows))
    if not shards:
        raise NotUsable(
            f"{folder}: no shard yet, of {partitions}: run the same `vqtok tokenize` again"
        )
    return Description(json.loads(metadata[b"vqtok.identity"]), tuple(shards), False, None)


def _shard(number: int, a_folder: int) -> str:
    below = f"{number // a_folder:05}/" if a_folder else ""
    return f"tokens/{below}part-{number:05}.parquet"


def _no_output(folder: Folder) -> str:
    inside = folder.size("../plan.parquet") if not folder.remote else None
    if inside is not None:
        return f"{folder}: this is inside an output; open the folder above it"
    return f"{folder}: no {DESCRIPTION} here: name the folder that `vqtok tokenize --out` wrote"
