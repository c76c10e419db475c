"""`python -m vqtok.ray tokenize`: one output, made by all nodes of a Ray cluster.

An actor for each CPU or GPU slot holds one `vqtok worker`, which loads the model once; partitions
of the plan are handed out largest first. Nodes may come and go. What a lost node was at is made
again by others, and the commit protocol keeps what is there first, so that the shards are those of
one machine, byte for byte. Every node needs this package (with the program) in the same version,
and the inputs, the model and the output under the same names: a shared folder, or an object store.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _flags
from ._errors import Error, MissingExtra
from ._run import Result, run
from ._schedule import (
    Died,
    Event,
    Failed,
    Gone,
    Job,
    Partition,
    Receipt,
    Refused,
    Schedule,
    coordinate,
)
from ._worker import Worker

STARTS_MAX = 3
"""Workers that can't be started, one after the other, before that is the job's fault."""
HEALTH = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
"""How soon a node counts as lost that doesn't answer: for `ray start --head --system-config`."""


class Slot:
    """What runs on a node, as an actor: a worker, and commands beside it."""

    def __init__(self) -> None:
        """Without any process yet."""
        self._worker: Worker | None = None

    def where(self) -> str:
        """Give the address of this node."""
        ray = _ray()
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


def _ray() -> Any:
    """Import Ray."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("vqtok.ray", "ray", "ray") from None
    return ray


@dataclass
class _Actor:
    handle: Any
    asked: float
    placed: Any
    """Its address, awaited."""
    node: str | None = None
    started: Any = None
    """Its `ready`, awaited."""
    ready: bool = False
    running: Any = None
    """Its answer, awaited."""
    looking: Any = None
    done: int = 0
    told: bool = False


@dataclass
class _Needs:
    """What a slot takes of its node."""

    cpus: float
    gpus: float

    def words(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}"

    def on(self, resources: dict[str, float]) -> int:
        """Count the slots that a node with these resources has."""
        counts = []
        if self.cpus:
            counts.append(resources.get("CPU", 0.0) / self.cpus)
        if self.gpus:
            gpus = resources.get("GPU", 0.0)
            # A fraction is of one GPU: two thirds of one and a third of another are no slot.
            counts.append(gpus * (1 / self.gpus // 1) if self.gpus < 1 else gpus / self.gpus)
        return int(min(counts) + 1e-6) if counts else 0


@dataclass
class RayPool:
    """Actors on a cluster, as many as there are slots; those that are lost are made again."""

    needs: _Needs
    slots: int | None
    wait_max: float
    say: Any
    cwd: str | None
    flags: list[str] | None = None
    """Of the workers; None until there is a plan."""
    actors: dict[str, _Actor] = field(default_factory=dict)
    _number: int = 0
    _failed_starts: int = 0
    _looked: float = 0.0
    _asked: float = 0.0
    _since: float = field(default_factory=time.monotonic)
    """When there was a worker last."""
    _events: list[Event] = field(default_factory=list)

    def fill(self) -> None:
        """Ask for actors, so that every slot has one."""
        ray = _ray()
        now = time.monotonic()
        if now - self._looked < 1.0 and self.actors:
            return
        self._looked = now
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        there = sum(self.needs.on(resources) for resources in nodes)
        target = there if self.slots is None else self.slots
        slot = ray.remote(Slot).options(
            num_cpus=self.needs.cpus,
            num_gpus=self.needs.gpus,
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )
        # Those that wait for a node that has left wait for nothing.
        for name in [name for name, actor in self.actors.items() if actor.node is None]:
            if len(self.actors) > max(1, target):
                ray.kill(self.actors.pop(name).handle)
        while len(self.actors) < max(1, target):
            handle = slot.remote()
            self._number += 1
            self.actors[f"worker-{self._number}"] = _Actor(handle, now, handle.where.remote())
        self._unplaced(now, nodes)

    def _unplaced(self, now: float, nodes: list[dict[str, float]]) -> None:
        """Say which actors find no place; nobody else does.

        Raises:
            Failed: There is none for any of them.
        """
        if any(actor.node is not None for actor in self.actors.values()):
            self._since = now
        late = [name for name, a in self.actors.items() if a.node is None and not a.told]
        late = [name for name in late if now - self.actors[name].asked > self.wait_max]
        has = ", ".join(f"{n.get('CPU', 0):g} CPU and {n.get('GPU', 0):g} GPU" for n in nodes)
        what = f"each needs {self.needs.words()} on one node; the nodes have: {has or 'nothing'}"
        if now - self._since > self.wait_max:
            raise Failed(
                f"no worker could be placed for {self.wait_max:.0f} s; {what}; "
                "the same command goes on once there is room",
                75,
            )
        if late:
            for name in late:
                self.actors[name].told = True
            waited = f"{len(late)} of {len(self.actors)} workers can't be placed"
            text = f"{waited} after {self.wait_max:.0f} s; {what}; the others go on"
            self.say("unplaced", text, workers=len(late), slots=len(self.actors))

    def idle(self) -> list[tuple[str, str]]:
        """Give the workers that wait for work."""
        return [
            (name, str(actor.node))
            for name, actor in self.actors.items()
            if actor.ready and actor.running is None
        ]

    def submit(self, worker: str, job: Job) -> None:
        """Ask an idle worker for a partition."""
        actor = self.actors[worker]
        actor.done = 0
        actor.running = actor.handle.run.remote(job.partition.number, job.deaths)

    def wait(self, seconds: float) -> list[Event]:
        """Give what happens, as soon as something does."""
        ray = _ray()
        self.fill()
        awaited = {}
        for name, actor in self.actors.items():
            for ref in (actor.placed, actor.started, actor.running, actor.looking):
                if ref is not None:
                    awaited[ref] = name
        begun = time.monotonic()
        ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        if not any(self._matters(ref, awaited[ref]) for ref in ready):
            main = [ref for ref in awaited if self._matters(ref, awaited[ref])]
            ready += ray.wait(main, timeout=seconds)[0] if main else []
        for ref in ready:
            if awaited[ref] in self.actors:
                self._answer(ref, awaited[ref])
        self._look(begun)
        events, self._events = self._events, []
        return events

    def _matters(self, ref: Any, name: str) -> bool:
        return self.actors[name].looking is not ref

    def _look(self, now: float) -> None:
        """Ask who is at work how far it is, once a second."""
        if now - self._asked < 1.0:
            return
        self._asked = now
        for actor in self.actors.values():
            if actor.running is not None and actor.looking is None:
                actor.looking = actor.handle.done.remote()

    def _answer(self, ref: Any, name: str) -> None:
        ray, actor = _ray(), self.actors[name]
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            self._raised(name, error)
            return
        except ray.exceptions.RayError as error:
            self._lost(name, _reason(error))
            return
        if ref is actor.looking:
            actor.looking, actor.done = None, answer
        elif ref is actor.placed:
            actor.placed, actor.node = None, answer
            if self.flags is not None:
                actor.started = actor.handle.start.remote(self.flags, self.cwd)
        elif ref is actor.started:
            actor.started, actor.ready = None, True
            self._failed_starts = 0
            self.say("worker", f"{name} is ready on {actor.node}", worker=name, node=actor.node)
        elif ref is actor.running:
            actor.running = None
            self._events.append(_event(name, answer))

    def _lost(self, name: str, reason: str) -> None:
        actor = self.actors.pop(name)
        # It may be out of reach for a while only, and would keep its slot.
        _ray().kill(actor.handle)
        where = actor.node or "a node"
        self.say("lost-worker", f"{name} on {where} is lost: {reason}", worker=name, node=where)
        # Ray ends actors where a node runs out of memory, which may be this partition's doing.
        kind = Died if "memory" in reason and actor.running is not None else Gone
        self._events.append(kind(name, reason))

    def _raised(self, name: str, error: Any) -> None:
        """Take note of an exception: a worker that can't be started, as a rule.

        Raises:
            Failed: One that nobody can start.
        """
        cause = error.cause if isinstance(error.cause, BaseException) else error
        reason = _first_line(cause)
        actor = self.actors.pop(name)
        _ray().kill(actor.handle)
        self._events.append(Gone(name, reason))
        self._failed_starts += 1
        self.say("lost-worker", f"{name} on {actor.node}: {reason}", worker=name, node=actor.node)
        if self._failed_starts >= STARTS_MAX:
            raise Failed(f"{actor.node}: {reason}", getattr(cause, "exit_code", 2))

    def call(self, args: list[str]) -> Result:
        """Run a command of the program on a node, on another one where that is lost.

        Raises:
            Error: The command's own.
        """
        ray = _ray()
        for _ in range(STARTS_MAX):
            while not any(a.node and a.running is None for a in self.actors.values()):
                self.wait(0.5)
            free = ((n, a) for n, a in self.actors.items() if a.node and a.running is None)
            name, actor = next(free)
            try:
                result = ray.get(actor.handle.call.remote(args, self.cwd))
            except ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, BaseException) else error
                raise (cause if isinstance(cause, Error) else Failed(_first_line(cause))) from None
            except ray.exceptions.RayError as error:
                self._lost(name, _reason(error))
                continue
            assert isinstance(result, Result)
            return result
        raise Failed(f"vqtok {args[0]}: every worker that was asked is lost", 75)

    def start(self, flags: list[str]) -> None:
        """Start the workers, now that there is a plan."""
        self.flags = flags
        for actor in self.actors.values():
            if actor.node is not None:
                actor.started = actor.handle.start.remote(flags, self.cwd)

    def drop(self, *, busy: bool) -> None:
        """End the actors, or only those that are still at something that is made."""
        for name, actor in list(self.actors.items()):
            if not busy or actor.running is not None:
                _ray().kill(actor.handle)
                del self.actors[name]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """Say why an actor is no more, in a line; out of memory, wherever Ray says so."""
    line = _first_line(error)
    if "memory" not in line and "out of memory" in str(error).lower():
        line += " (out of memory)"
    return line


def _event(worker: str, answer: dict[str, Any]) -> Event:
    kind, message = answer.get("event"), str(answer.get("message", ""))
    if kind == "receipt":
        return Receipt(worker, answer)
    if kind == "error":
        return Refused(worker, message, int(answer.get("exit_code", 2)))
    if kind == "died":
        return Died(worker, message)
    return Gone(worker, message)


class Progress:
    """What is said while work goes on: events with `--json`, else lines on stderr."""

    INTERVAL_JSON = 1.0
    INTERVAL = 5.0
    WINDOW = 15.0

    def __init__(self, as_json: bool) -> None:
        """For machines or for people."""
        self.as_json = as_json
        # Stdout is for results and events alone: what Ray prints there goes to stderr.
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._last = time.monotonic()
        self._history: deque[tuple[float, Counter[str]]] = deque()

    def say(self, event: str, text: str, **fields: Any) -> None:
        """Say something in a line."""
        if self.as_json:
            line = json.dumps({"event": event, "message": text, **fields})
            print(line, file=self._out, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def result(self, event: str, text: str, **fields: Any) -> None:
        """Say what has come of it."""
        if self.as_json:
            self.say(event, text, **fields)
        else:
            print(text, file=self._out, flush=True)

    def tell(self, schedule: Schedule, pool: RayPool) -> None:
        """Say how far the work is, every few seconds."""
        now = time.monotonic()
        if now - self._last < (self.INTERVAL_JSON if self.as_json else self.INTERVAL):
            return
        self._last = now
        by_node = Counter(schedule.totals.by_node)
        for worker, _ in schedule.in_work().items():
            actor = pool.actors.get(worker)
            if actor is not None:
                by_node[str(actor.node)] += actor.done
        if not by_node:
            return  # Nobody has begun.
        self._history.append((now, by_node))
        while now - self._history[0][0] > self.WINDOW:
            self._history.popleft()
        begun, before = self._history[0]
        nodes = {
            node: max(0.0, (count - before[node]) / max(now - begun, 1e-9))
            for node, count in sorted(by_node.items())
        }
        rate = sum(nodes.values())
        done = min(sum(by_node.values()), schedule.images)
        left = (schedule.images - done) / rate if rate else 0.0
        each = ", ".join(f"{node} {one:.1f}/s" for node, one in nodes.items())
        eta = f"  ETA {left:.0f} s" if rate else ""
        text = f"{done:,}/{schedule.images:,} images  {rate:.1f}/s{eta}  ({each})"
        self.say(
            "progress", text, stage="tokenize", unit="images", done=done, total=schedule.images,
            failed=schedule.totals.failed, per_second=rate, eta_s=left, nodes=nodes,
        )  # fmt: skip


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine.

    Raises:
        Failed: There is none at that address, or it wants another token.
    """
    if address and "RAY_AUTH_MODE" not in os.environ:
        # `ray start --head` of 2.60 turns tokens on, and a driver doesn't find that out by itself.
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        if "RAY_AUTH_TOKEN" in os.environ or Path(path).is_file():
            os.environ["RAY_AUTH_MODE"] = "token"
    ray = _ray()
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if not address:
        settings.update(include_dashboard=False, _system_config=HEALTH)
    try:
        ray.init(address=address or "local", **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = _first_line(error).rstrip(".")
        raise Failed(
            f"{address or 'ray'}: {reason}; a cluster with token authentication wants "
            "RAY_AUTH_MODE=token, and the token of its head (~/.ray/auth_token there) named by "
            "RAY_AUTH_TOKEN_PATH, here and on every node"
        ) from None


def _needs(args: argparse.Namespace) -> _Needs:
    device = (args.device or ["auto"])[-1]
    on_gpu = device.startswith(("cuda", "tensorrt"))
    gpus = args.gpus if args.gpus is not None else (1.0 if on_gpu else 0.0)
    if gpus > 1 and gpus % 1:
        raise Failed(f"--gpus {gpus:g}: a part of one GPU, or whole ones")
    if args.cpus is not None:
        return _Needs(args.cpus, gpus)
    if not gpus:
        return _Needs(1.0, 0.0)
    # Decoding wants the cores that come with a GPU; those of the poorest node.
    shares = [
        node["Resources"].get("CPU", 1.0) / node["Resources"]["GPU"] * gpus
        for node in _ray().nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0.0) > 0
    ]
    return _Needs(float(max(1, int(min(shares, default=1.0)))), gpus)


def _parser() -> argparse.ArgumentParser:
    tokenize = argparse.ArgumentParser(
        prog="python -m vqtok.ray tokenize",
        allow_abbrev=False,
        description="Tokenize on all nodes of a Ray cluster; the flags of `vqtok tokenize` beside "
        "those below. Run again after any failure, it goes on.",
        epilog="Exit codes: 0 clean, 1 finished with failures, 2 fatal, 75 try again later, 130 "
        "interrupted.",
    )
    tokenize.add_argument("inputs", nargs="+", metavar="INPUT")
    tokenize.add_argument("--address", help="of the cluster [default: RAY_ADDRESS, else a new one "
                          "on this machine]")  # fmt: skip
    tokenize.add_argument("--slots", type=int, help="workers at most [default: as many as the "
                          "nodes have room for, those that join included]")  # fmt: skip
    tokenize.add_argument("--cpus", type=float, help="CPUs of a worker, and its threads [default: "
                          "1; with a GPU, its share of the node's]")  # fmt: skip
    tokenize.add_argument("--gpus", type=float, help="GPUs of a worker, such as 0.5 [default: 1 "
                          "with --device cuda, else 0]")  # fmt: skip
    tokenize.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="how long a "
                          "worker may look for a place before that is said, and all of them before "
                          "the command ends [default: 60]")  # fmt: skip
    tokenize.add_argument("--json", action="store_true", help="events on stdout, one a line")
    told = {
        "out": "output, in a folder that every node has, or a store",
        "model": "the tokenizer, in a place that every node has; it must be there before",
    }
    # The program itself checks the values.
    for name in (*_flags.PLAN, *_flags.SHARED):
        if name in _flags.SWITCHES:
            tokenize.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
        else:
            tokenize.add_argument(
                f"--{name}",
                action="append",
                help=told.get(name, argparse.SUPPRESS),
                required=name in told,
            )
    return tokenize


def _words(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Give the flags of these names as they were given."""
    words = []
    for name in names:
        value = getattr(args, name.replace("-", "_"))
        if value is True:
            words.append(f"--{name}")
        elif value:
            words += [f"--{name}={one}" for one in value]
    return words


def tokenize(args: argparse.Namespace, progress: Progress) -> int:
    """Plan, make every partition, finalize: the exit code.

    Raises:
        Failed, Error: It can't be finished; the message says why.
    """
    if args.slots is not None and args.slots < 1:
        raise Failed(f"--slots {args.slots}: at least one worker")
    begun = time.monotonic()
    connect(args.address or os.environ.get("RAY_ADDRESS"))
    # As Ctrl-C: what a scheduler ends goes on later. Ray has put its own handler there.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    needs = _needs(args)
    if args.threads is None:
        args.threads = [str(max(1, int(needs.cpus)))]
    pool = RayPool(needs, args.slots, args.wait, progress.say, os.getcwd())
    pool.fill()
    planning = [*_words(args, _flags.PLAN), *_words(args, _flags.SHARED)]
    plan = pool.call(["tokenize", *planning, "--plan-only", "--", *args.inputs])
    written = plan.event("written-plan") or {}
    todo = [
        Partition(int(e["partition"]), int(e["images"]), int(e["bytes"]))
        for e in plan.events
        if e.get("event") == "todo"
    ]
    schedule = Schedule(todo)
    text = f"{written.get('images', 0):,} images; {len(todo):,} of " + (
        f"{written.get('partitions', 0):,} partitions to make"
    )
    progress.say("planned", text, images=written.get("images"), missing=len(todo))
    working = time.monotonic()
    if todo:
        pool.start(_words(args, _flags.SHARED))
        coordinate(schedule, pool, lambda: progress.tell(schedule, pool))
        pool.drop(busy=True)
    worked = time.monotonic()
    _summary(progress, schedule, worked - working, working - begun)
    done = pool.call(["finalize", *args.out[-1:]])
    dataset = done.event("dataset") or {}
    text = (
        f"{dataset.get('dir')}: {dataset.get('planned', 0):,} images planned, "
        f"{dataset.get('written', 0):,} written, {dataset.get('failed', 0):,} failed, in "
        f"{dataset.get('shards', 0):,} shards"
    )
    progress.result("dataset", text, **{k: v for k, v in dataset.items() if k != "event"})
    return done.exit_code


def _summary(progress: Progress, schedule: Schedule, seconds: float, before: float) -> None:
    totals = schedule.totals
    rate = totals.images / seconds if seconds else 0.0
    each = ", ".join(f"{node} {count:,}" for node, count in sorted(totals.by_node.items()))
    text = f"{totals.images:,} images in {seconds:.1f} s ({rate:.1f} images/s): {each}"
    happened = {
        "workers lost": totals.gone,
        "ended by their partitions": totals.deaths,
        "partitions given up": totals.given_up,
        "made a second time for speed": totals.copies,
        "with other tokens than another worker's, which stay": totals.differing,
    }
    told = ", ".join(f"{count} {what}" for what, count in happened.items() if count)
    progress.say(
        "tokenized", f"{text}; {told}" if told else text, images=totals.images,
        written=totals.written, failed=totals.failed, partitions=totals.partitions,
        already=totals.already, lost=totals.differing, deaths=totals.deaths, gone=totals.gone,
        given_up=totals.given_up, copies=totals.copies, busy=totals.busy, seconds=seconds,
        images_per_second=rate, seconds_before=before, nodes=dict(totals.by_node),
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Run the command: its exit code."""
    words = sys.argv[1:] if words is None else list(words)
    if words[:1] != ["tokenize"]:
        parser = _parser()
        if words[:1] not in (["-h"], ["--help"]):
            print("vqtok: python -m vqtok.ray has one command: tokenize", file=sys.stderr)
            return 2
        parser.print_help()
        return 0
    args = _parser().parse_intermixed_args(words[1:])
    progress = Progress(args.json)
    code, why = 130, "interrupted; the same command goes on"
    try:
        return tokenize(args, progress)
    except KeyboardInterrupt:
        pass
    except (Error, Failed, MissingExtra) as error:
        code, why = getattr(error, "exit_code", 2), str(error)
    finally:
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            ray.shutdown()  # Its actors end with it, and their workers with them.
    if args.json:
        progress.say("error", why, exit_code=code)
    print(f"vqtok: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
