"""Which partition goes to which worker, and when one is given up: no cluster, no processes.

A partition may be made twice, or by a worker that everybody thinks dead: the commit protocol keeps
the first, so nothing here is about correctness, only about time.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

DEATHS_MAX = 3
"""A partition that has ended so many workers is given up, by the worker that gets it next."""
DEATHS_FATAL = 6
"""One that ends workers even then has met something that isn't its images' fault."""
REFUSALS_MAX = 3
"""Errors of one partition, on any workers, before they are the job's."""
BUSY_MAX = 10
"""The same where each says that it can be tried again."""
LOSSES_MAX = 20
"""Workers that may be lost with one partition: it could be what takes their nodes down."""
BUSY_WAIT_MAX = 30.0
"""Seconds before such a partition is tried again, at most; the first time it is one."""
STRAGGLES_AFTER = 5.0
"""Seconds that a partition must have been in work before it is made a second time."""
STRAGGLES_BEYOND = 1.5
"""And as many times as long as others of its size have taken."""


class Failed(Exception):
    """The job can't be finished: the message says why, and `exit_code` what to do."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        """Of the job as a whole."""
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Partition:
    """A unit of work, as the plan has it."""

    number: int
    images: int
    bytes: int


@dataclass(frozen=True)
class Job:
    """What a worker is asked for."""

    partition: Partition
    deaths: int
    copy: bool = False
    """Whether another worker is at it as well."""


@dataclass(frozen=True)
class Receipt:
    """A worker has made its partition, or found it made."""

    worker: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """A worker could not make its partition, and is well."""

    worker: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class Died:
    """The process of a worker ended while it was at its partition, and that may be why."""

    worker: str
    reason: str


@dataclass(frozen=True)
class Gone:
    """A worker is no more, for a reason that is not its partition's: its node was lost or taken."""

    worker: str
    reason: str


Event = Union[Receipt, Refused, Died, Gone]


@dataclass
class _Run:
    job: Job
    node: str
    since: float


@dataclass
class Totals:
    """What has happened."""

    images: int = 0
    written: int = 0
    failed: int = 0
    partitions: int = 0
    already: int = 0
    copies: int = 0
    """Partitions that were begun a second time while the first worker was still at them."""
    differing: int = 0
    """Partitions that were committed by another worker with other tokens before."""
    deaths: int = 0
    gone: int = 0
    busy: int = 0
    given_up: int = 0
    """Partitions whose images became failures since they ended every worker."""
    by_node: Counter[str] = field(default_factory=Counter)
    """Images."""


class Schedule:
    """What is to do, largest first; what is in work; what has come of it."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        """Of partitions that aren't there."""
        self._all = {partition.number: partition for partition in partitions}
        self._queue = [_rank(partition) for partition in self._all.values()]
        heapq.heapify(self._queue)
        self._later: list[tuple[float, int]] = []
        self._runs: dict[str, _Run] = {}
        self._made: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._refusals: Counter[int] = Counter()
        self._busy: Counter[int] = Counter()
        self._losses: Counter[int] = Counter()
        self._seconds_an_image: list[float] = []
        self.totals = Totals()
        self.images = sum(partition.images for partition in self._all.values())

    @property
    def finished(self) -> bool:
        """Whether every partition is there."""
        return len(self._made) == len(self._all)

    def has_work(self, worker: str) -> bool:
        """Whether a worker is at a partition."""
        return worker in self._runs

    def in_work(self) -> dict[str, Partition]:
        """Which partition each worker is at."""
        return {worker: run.job.partition for worker, run in self._runs.items()}

    def next(self, worker: str, node: str, now: float) -> Job | None:
        """Give an idle worker its next partition, if there is one for it."""
        assert worker not in self._runs, worker
        while self._later and self._later[0][0] <= now:
            _, number = heapq.heappop(self._later)
            heapq.heappush(self._queue, _rank(self._all[number]))
        if self._queue:
            number = heapq.heappop(self._queue)[-1]
            return self._begin(worker, node, number, now, copy=False)
        straggler = self._straggler(node, now)
        if straggler is None:
            return None
        self.totals.copies += 1
        return self._begin(worker, node, straggler, now, copy=True)

    def _begin(self, worker: str, node: str, number: int, now: float, *, copy: bool) -> Job:
        job = Job(self._all[number], self._deaths[number], copy)
        self._runs[worker] = _Run(job, node, now)
        return job

    def _straggler(self, node: str, now: float) -> int | None:
        """Give the partition that is the furthest behind what others took, on another node if any.

        One that has ended a worker isn't given to two at once.
        """
        if not self._seconds_an_image:
            return None
        usual = statistics.median(self._seconds_an_image)
        runs = Counter(run.job.partition.number for run in self._runs.values())
        late = []
        for run in self._runs.values():
            number, took = run.job.partition.number, now - run.since
            due = max(STRAGGLES_AFTER, STRAGGLES_BEYOND * usual * run.job.partition.images)
            if runs[number] == 1 and not self._deaths[number] and took > due:
                late.append((run.node == node, -took, number))
        return min(late)[-1] if late else None

    def apply(self, event: Event, now: float) -> None:
        """Take note of what a worker says, or of its end.

        Raises:
            Failed: A partition that nobody can make.
        """
        run = self._runs.pop(event.worker, None)
        if isinstance(event, Gone):
            self.totals.gone += 1
        if run is None:
            return
        number = run.job.partition.number
        if isinstance(event, Receipt):
            self._receipt(event.fields, run, now)
        elif number in self._made:
            return
        elif isinstance(event, Died):
            self._died(number, event.reason)
        elif isinstance(event, Refused):
            self._refused(number, event, now)
        else:
            self._lost(number, event.reason)

    def _receipt(self, fields: dict[str, Any], run: _Run, now: float) -> None:
        partition, totals = run.job.partition, self.totals
        if fields.get("commit") == "lost":
            totals.differing += 1
        if partition.number in self._made:
            return
        self._made.add(partition.number)
        totals.partitions += 1
        totals.images += partition.images
        totals.by_node[run.node] += partition.images
        if fields.get("commit") != "committed":
            totals.already += 1
        totals.written += int(fields.get("written", 0))
        totals.failed += int(fields.get("failed", 0))
        if run.job.deaths >= DEATHS_MAX:
            totals.given_up += 1
        elif fields.get("sha256"):
            self._seconds_an_image.append((now - run.since) / max(1, partition.images))

    def _died(self, number: int, reason: str) -> None:
        self.totals.deaths += 1
        self._deaths[number] += 1
        if self._deaths[number] >= DEATHS_FATAL:
            raise Failed(f"partition {number} ends every worker, even to give it up: {reason}")
        self._again(number)

    def _lost(self, number: int, reason: str) -> None:
        self._losses[number] += 1
        if self._losses[number] >= LOSSES_MAX:
            text = f"partition {number}: {LOSSES_MAX} workers were lost while they were at it"
            raise Failed(f"{text}, the last one since: {reason}", 75)
        self._again(number)

    def _refused(self, number: int, event: Refused, now: float) -> None:
        counter, most = self._refusals, REFUSALS_MAX
        if event.exit_code == 75:
            self.totals.busy += 1
            counter, most = self._busy, BUSY_MAX
        counter[number] += 1
        if counter[number] >= most:
            raise Failed(f"partition {number}: {event.message}", event.exit_code)
        if self._runs_of(number):
            return
        if event.exit_code == 75:
            wait = min(BUSY_WAIT_MAX, 2.0 ** (counter[number] - 1))
            heapq.heappush(self._later, (now + wait, number))
        else:
            self._again(number)

    def _again(self, number: int) -> None:
        """Put a partition back, unless another worker is at it still."""
        if not self._runs_of(number):
            heapq.heappush(self._queue, _rank(self._all[number]))

    def _runs_of(self, number: int) -> bool:
        return any(run.job.partition.number == number for run in self._runs.values())


def _rank(partition: Partition) -> tuple[int, int, int]:
    """Order the largest first: what is begun last should be done soon."""
    return (-partition.bytes, -partition.images, partition.number)


class Pool(Protocol):
    """Workers somewhere."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Give what happens, as soon as something does; nothing after so many seconds."""

    def idle(self) -> Sequence[tuple[str, str]]:
        """Give the workers that wait for work, each with its node."""

    def submit(self, worker: str, job: Job) -> None:
        """Ask an idle worker for a partition."""


def coordinate(
    schedule: Schedule,
    pool: Pool,
    tell: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Hand out partitions until each of them is there; `tell` is called again and again.

    Raises:
        Failed: A partition that nobody can make, or nobody to make them.
    """
    while not schedule.finished:
        for worker, node in pool.idle():
            job = schedule.next(worker, node, clock())
            if job is not None:
                pool.submit(worker, job)
        for event in pool.wait(0.5):
            schedule.apply(event, clock())
        tell()
