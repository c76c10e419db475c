"""What runs on a node of a cluster for each of its slots."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from ._cluster import import_ray
from ._errors import Error
from ._run import Result, run
from ._worker import Worker


class Slot:
    """What runs on a node, as an actor: a worker, and commands beside it."""

    def __init__(self) -> None:
        """Without any process yet."""
        self._worker: Worker | None = None

    def where(self) -> str:
        """Give the address of this node."""
        ray = import_ray()
        return str(ray.util.get_node_ip_address())

    def call(self, args: list[str], cwd: str | None) -> Result:
        """Run another command of the program."""
        return run(args, cwd=_here(cwd, args))

    def start(self, flags: list[str], cwd: str | None) -> dict[str, Any]:
        """Start the worker and wait until it has its model."""
        self._worker = Worker(flags, cwd=_here(cwd, flags))
        return self._worker.start()

    def run(self, partition: int, deaths: int) -> dict[str, Any]:
        """Make a partition."""
        assert self._worker is not None
        return self._worker.run(partition, deaths)

    def done(self) -> int:
        """Give how many images of the partition in work are done; answers while `run` does."""
        return 0 if self._worker is None else self._worker.done


def _here(cwd: str | None, args: Sequence[str]) -> str | None:
    """Give the folder that relative paths are of, on this node."""
    if cwd is None or os.path.isdir(cwd):
        return cwd
    raise Error(
        f"{socket.gethostname()} has no folder {cwd}: start this command in a folder that every "
        "node has",
        2,
        args,
    )
