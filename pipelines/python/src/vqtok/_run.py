"""Runs the program and listens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Callable, Union, cast

from ._errors import Error, Unfinished
from ._find import find_vqtok_bin

if TYPE_CHECKING:
    from ._output import Dataset

Event = dict[str, Any]
"""What `--json` prints in a line: `event` is its name, the others are what it says."""

PathLike = Union[str, "os.PathLike[str]"]
Value = Union[None, bool, int, float, PathLike, Sequence[Union[int, float, PathLike]]]

TRY_AGAIN = 75
# Events that come again and again, of which a result keeps none: it doesn't grow with the data.
PASSING = frozenset({"checkpoint", "look", "partition", "progress", "usage"})


@dataclass(frozen=True)
class Result:
    """How a command ended that did what it was asked to."""

    exit_code: int
    """0, or 1: done, but some images or rows failed, or `verify` found something."""
    events: tuple[Event, ...]
    """What it said, but for what passes by (progress, partitions, ...)."""

    def event(self, name: str) -> Event | None:
        """Give the last event of this name, if there was one."""
        return next((e for e in reversed(self.events) if e.get("event") == name), None)


@dataclass(frozen=True)
class Summary:
    """What an output holds once `tokenize` is done."""

    out: str
    exit_code: int
    """1 where images failed, else 0."""
    finished: bool
    """Whether the whole output is there: False where shards are left to other workers."""
    planned: int | None
    """Images, written and failed; these counts are None while the output isn't finished."""
    written: int | None
    failed: int | None
    rows: int | None
    tokens: int | None
    shards: int | None
    missing: int
    """Shards that other workers have yet to write."""
    failures: tuple[Event, ...] = field(repr=False)
    """Some of the images that failed in this run: `key`, `stage`, `error`. All of them, those of
    earlier runs too, are in the output's `failures/`."""
    events: tuple[Event, ...] = field(repr=False)
    """What was said, but for what passes by."""

    def open(self) -> Dataset:
        """Read the output."""
        from ._output import open

        return open(self.out)


def tokenize(
    src: PathLike | Iterable[PathLike],
    *,
    out: PathLike,
    model: PathLike,
    on_event: Callable[[Event], object] | None = None,
    **settings: Value,
) -> Summary:
    """Turn images into token shards; train the model first where there is none.

    Args:
        src: A folder, tar, Parquet file, zip or list of images, or several of these.
        out: Folder of the output. A run that was stopped goes on there; on a finished one it does
            nothing.
        model: A model's folder, or a published checkpoint.
        on_event: Called with each event as it comes. An exception in it stops the run as Ctrl-C
            does.
        **settings: The flags of `vqtok tokenize`: `batch_size=4` is `--batch-size 4`, `append=True`
            is `--append`; None and False leave a flag out, a list repeats it. `pass_` is `--pass`.

    Returns:
        What the output holds. Images that failed are no exception: `failed` counts them.

    Raises:
        Error: Nothing more can be done; the message says why.
        Unfinished: Call it again later.
        KeyboardInterrupt: After the program has ended; the next call goes on.
    """
    inputs = [src] if isinstance(src, (str, os.PathLike)) else list(src)
    if not inputs:
        raise ValueError("src is empty: name a folder or file with images")
    flags = dict(settings, out=out, model=model)
    args = ["tokenize", *_flags(flags), "--", *(os.fspath(path) for path in inputs)]
    result = run(args, on_event=on_event)
    dataset = result.event("dataset")
    waiting = result.event("waiting") or {}
    counts = {
        name: None if dataset is None else int(dataset[name])
        for name in ("planned", "written", "failed", "rows", "tokens", "shards")
    }
    return Summary(
        out=os.fspath(out),
        exit_code=result.exit_code,
        finished=dataset is not None,
        missing=int(waiting.get("missing", 0)),
        failures=tuple(e for e in result.events if e.get("event") == "failure"),
        events=result.events,
        **counts,
    )


def run(
    args: Sequence[PathLike],
    *,
    on_event: Callable[[Event], object] | None = None,
    cwd: PathLike | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run any command: `vqtok.run(["verify", "tokens/"])`; `--json` is added.

    Args:
        args: The command line behind `vqtok`.
        on_event: Called with each event as it comes. An exception in it stops the run.
        cwd: Folder that relative paths are of.
        env: Environment of the program; this process's if None.

    Raises:
        Error: It failed; the message is its own line.
        Unfinished: Call it again later.
        KeyboardInterrupt: After the program has ended; the same call goes on.
    """
    words = [find_vqtok_bin(), *(os.fspath(arg) for arg in args)]
    if "--json" not in words:
        # What stands behind a `--` is an input.
        words.insert(words.index("--") if "--" in words else len(words), "--json")
    kept: list[Event] = []
    with _Program(words, cwd, env) as program:
        for event in program.events():
            if event.get("event") not in PASSING:
                kept.append(event)
            if on_event is not None:
                on_event(event)
        code = program.wait()
    if code in (0, 1):
        return Result(code, tuple(kept))
    message = _reason(kept, program.said()) or f"vqtok ended with exit code {code}"
    raise (Unfinished if code == TRY_AGAIN else Error)(message, code, words)


def _reason(events: Sequence[Event], said: str) -> str:
    """Give the line that says why: the error event's, else the program's last words."""
    errors = [str(e["message"]) for e in events if e.get("event") == "error" and "message" in e]
    return errors[-1] if errors else said.strip()


def _flags(settings: Mapping[str, Value]) -> Iterator[str]:
    """Settings as flags; `--name=value`, so that a value may begin with a dash."""
    for name, value in settings.items():
        flag = "--" + name.rstrip("_").replace("_", "-")
        many = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        for one in cast("Sequence[Any]", value) if many else [value]:
            if one is True:
                yield flag
            elif one is not None and one is not False:
                yield f"{flag}={os.fspath(one) if isinstance(one, os.PathLike) else one}"


class _Program:
    """A running program. Leaving it ends it, gently where there is time."""

    # Of what goes to stderr the end is kept, for the line that says why.
    TAIL = 16 << 10

    def __init__(
        self, words: Sequence[str], cwd: PathLike | None, env: Mapping[str, str] | None
    ) -> None:
        # Ctrl-C on a terminal goes to all its processes. Where this thread hears of it, it passes
        # it on, once, since a second one ends the program at once; where it doesn't, the program
        # must hear it itself.
        hears = threading.current_thread() is threading.main_thread()
        self._child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=hears,
        )
        self._tail = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Drain stderr: a full pipe would stop the program."""
        err = cast("IO[bytes]", self._child.stderr)
        for line in err:
            self._tail = (self._tail + line)[-self.TAIL :]

    def events(self) -> Iterator[Event]:
        """Give the events as they come."""
        for line in cast("IO[bytes]", self._child.stdout):
            text = line.decode(errors="replace")
            try:
                event = json.loads(text)
            except ValueError:
                event = None
            yield event if isinstance(event, dict) else {"event": "text", "text": text.rstrip("\n")}

    def wait(self) -> int:
        code = self._child.wait()
        self._listener.join()
        return code

    def said(self) -> str:
        return self._tail.decode(errors="replace")

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        """Pass an interruption on and wait: shards in the making are finished or left out whole."""
        while self._child.poll() is None:
            try:
                self._child.send_signal(signal.SIGINT)
                for _line in cast("IO[bytes]", self._child.stdout):
                    pass
                self._child.wait()
            except KeyboardInterrupt:
                # The second signal, which ends it at once, follows above.
                continue
        self._listener.join()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
