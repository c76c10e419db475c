"""One `vqtok worker`: a process that makes partitions, started again when it dies."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from ._errors import Error, Unfinished
from ._find import find_vqtok_bin

Fields = dict[str, Any]

SILENT_MAX = 120.0
"""Seconds without a heartbeat after which a worker hangs."""
TRY_AGAIN = 75


class Worker:
    """A `vqtok worker`, started when it is asked for something."""

    TAIL = 16 << 10

    def __init__(
        self,
        flags: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        silent_max: float = SILENT_MAX,
    ) -> None:
        """Of the command line behind `vqtok worker`."""
        self._words = [find_vqtok_bin(), "worker", *flags]
        self._cwd, self._env, self._silent_max = cwd, env, silent_max
        self._child: subprocess.Popen[bytes] | None = None
        self._events: queue.Queue[Fields | None] = queue.Queue()
        self._tail = b""
        self.done = 0
        """Images of the partition in work that are done."""

    def start(self) -> Fields:
        """Start it, unless it runs, and wait until it is ready.

        Raises:
            Error: It can't be used; the message is its own line.
        """
        if self._child is not None and self._child.poll() is None:
            return {}
        self._tail, self._events = b"", queue.Queue()
        self._child = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._cwd,
            env=None if self._env is None else dict(self._env),
        )
        child = self._child
        self._drainer = threading.Thread(target=self._drain, args=(child,), daemon=True)
        self._drainer.start()
        listener = threading.Thread(target=self._listen, args=(child, self._events), daemon=True)
        listener.start()
        # A model may take as long as it likes to be read.
        while True:
            event = self._events.get()
            if event is None:
                code = self._child.wait()
                message = self._reason() or f"vqtok worker ended with exit code {code}"
                raise (Unfinished if code == TRY_AGAIN else Error)(message, code, self._words)
            if event.get("event") == "ready":
                return event

    def run(self, partition: int, deaths: int) -> Fields:
        """Make a partition: its `receipt` or `error`, or that the process `died` or `stopped`."""
        self.done = 0
        self.start()
        child = cast("subprocess.Popen[bytes]", self._child)
        request = json.dumps({"partition": partition, "deaths": deaths}) + "\n"
        try:
            stdin = cast("IO[bytes]", child.stdin)
            stdin.write(request.encode())
            stdin.flush()
        except OSError:
            return self._ended(child)
        while True:
            try:
                event = self._events.get(timeout=self._silent_max)
            except queue.Empty:
                child.kill()
                child.wait()
                reason = f"no sign of life for {self._silent_max:.0f} s"
                return {"event": "died", "message": reason}
            if event is None:
                return self._ended(child)
            if event.get("event") == "heartbeat":
                self.done = int(event["done"])
            elif event.get("event") in ("receipt", "error") and event.get("partition") == partition:
                return event

    def stop(self) -> None:
        """End it; what it is at is dropped."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _ended(self, child: subprocess.Popen[bytes]) -> Fields:
        """Say how the process ended, and whether that may be the partition's fault."""
        code = child.wait()
        if code in (TRY_AGAIN, 130, 143, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
            return {"event": "stopped", "message": self._reason() or f"exit code {code}"}
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = self._reason()
        return {"event": "died", "message": f"{reason}: {said}" if said else reason}

    def _listen(self, child: subprocess.Popen[bytes], events: queue.Queue[Fields | None]) -> None:
        for line in cast("IO[bytes]", child.stdout):
            try:
                event = json.loads(line)
            except ValueError:
                continue  # A line that was cut by the death of its writer.
            if isinstance(event, dict):
                events.put(event)
        events.put(None)

    def _drain(self, child: subprocess.Popen[bytes]) -> None:
        for line in cast("IO[bytes]", child.stderr):
            self._tail = (self._tail + line)[-self.TAIL :]

    def _reason(self) -> str:
        """Give the last line of what was said on stderr, of a process that has ended."""
        # A grandchild could hold the pipe for longer.
        self._drainer.join(timeout=2.0)
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("vqtok: ") if lines else ""
