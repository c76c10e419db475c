"""The files of an output, on a disk or in a store."""

from __future__ import annotations

import hashlib
import os
import posixpath
from typing import TYPE_CHECKING, Any

from ._errors import MissingExtra, NotUsable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def needed(what: str) -> Any:
    """Give pyarrow, with its parts imported, which `what` needs."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.dataset
        import pyarrow.fs
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(what, "pyarrow", "pyarrow") from error
    return pyarrow


class Folder:
    """A folder by its path, or by the address that pyarrow's file systems know it by.

    It holds nothing open, so it can be pickled.
    """

    def __init__(self, path: str) -> None:
        """Of a path or address."""
        self.remote = "://" in path
        self.path = path.rstrip("/") if self.remote else os.path.abspath(path)

    def __str__(self) -> str:
        return self.path

    def filesystem(self) -> tuple[Any, str]:
        """Give pyarrow's file system and the folder's path in it."""
        pa = needed("vqtok.open of an address")
        if self.remote:
            system, path = pa.fs.FileSystem.from_uri(self.path)
            return system, path
        return pa.fs.LocalFileSystem(), self.path

    def join(self, name: str) -> str:
        """Give the path of a file, for the eyes."""
        return posixpath.join(self.path, name) if self.remote else os.path.join(self.path, name)

    def size(self, name: str) -> int | None:
        """Give a file's length in bytes; None where there is none."""
        if not self.remote:
            path = self.join(name)
            return os.path.getsize(path) if os.path.isfile(path) else None
        system, root = self.filesystem()
        facts = system.get_file_info(posixpath.join(root, name))
        return int(facts.size) if facts.is_file else None

    def read(self, name: str) -> bytes | None:
        """Give a file's bytes; None where there is none."""
        if self.size(name) is None:
            return None
        if not self.remote:
            with open(self.join(name), "rb") as file:
                return file.read()
        system, root = self.filesystem()
        with system.open_input_file(posixpath.join(root, name)) as file:
            return bytes(file.read())

    def recorded(self, file: dict[str, Any]) -> pa.Table:
        """Give the rows of a small Parquet file, which must be as `dataset.json` has it."""
        pa = needed("reading what lies beside shards")
        data = self.read(file["path"])
        if data is None or hashlib.sha256(data).hexdigest() != file["sha256"]:
            state = "it isn't there" if data is None else "it isn't the one in dataset.json"
            raise NotUsable(
                f"{self.join(file['path'])}: {state}; `vqtok repair {self.path} --model MODEL` "
                "makes it again"
            )
        return pa.parquet.read_table(pa.BufferReader(data))

    def parquet(self, name: str) -> pq.ParquetFile:
        """Open a Parquet file; a local one is mapped into memory."""
        pa = needed("reading shards")
        if not self.remote:
            file, mapped = self.join(name), True
        else:
            system, root = self.filesystem()
            file, mapped = system.open_input_file(posixpath.join(root, name)), False
        try:
            return pa.parquet.ParquetFile(file, memory_map=mapped)
        except FileNotFoundError as error:
            raise NotUsable(f"{self.join(name)}: it isn't there") from error
        except (pa.ArrowInvalid, OSError) as error:
            # Of a footer that can't be parsed pyarrow says neither the file nor what to do.
            raise NotUsable(
                f"{self.join(name)}: {str(error).splitlines()[0]}; "
                f"`vqtok verify {self.path}` tells what is wrong"
            ) from error
