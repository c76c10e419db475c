"""Actors on a cluster: placed where there is room, made again where they are lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ._cluster import import_ray
from ._errors import Error, first_line
from ._needs import Needs
from ._run import Result
from ._schedule import Died, Event, Failed, Gone, Job, Receipt, Refused
from ._slot import Slot

STARTS_MAX = 3
"""Workers that can't be started, one after the other, before that is the job's fault."""


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
class RayPool:
    """Actors on a cluster, as many as there are slots; those that are lost are made again."""

    needs: Needs
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
        ray = import_ray()
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

    def under_way(self, workers: Iterable[str]) -> Counter[str]:
        """Count by nodes the images that these workers have done of what they are at."""
        by_node: Counter[str] = Counter()
        for name in workers:
            actor = self.actors.get(name)
            if actor is not None:
                by_node[str(actor.node)] += actor.done
        return by_node

    def submit(self, worker: str, job: Job) -> None:
        """Ask an idle worker for a partition."""
        actor = self.actors[worker]
        actor.done = 0
        actor.running = actor.handle.run.remote(job.partition.number, job.deaths)

    def wait(self, seconds: float) -> list[Event]:
        """Give what happens, as soon as something does."""
        ray = import_ray()
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
        ray, actor = import_ray(), self.actors[name]
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
        import_ray().kill(actor.handle)
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
        reason = first_line(cause)
        actor = self.actors.pop(name)
        import_ray().kill(actor.handle)
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
        ray = import_ray()
        for _ in range(STARTS_MAX):
            while not any(a.node and a.running is None for a in self.actors.values()):
                self.wait(0.5)
            free = ((n, a) for n, a in self.actors.items() if a.node and a.running is None)
            name, actor = next(free)
            try:
                result = ray.get(actor.handle.call.remote(args, self.cwd))
            except ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, BaseException) else error
                raise (cause if isinstance(cause, Error) else Failed(first_line(cause))) from None
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
                import_ray().kill(actor.handle)
                del self.actors[name]


def _reason(error: BaseException) -> str:
    """Say why an actor is no more, in a line; out of memory, wherever Ray says so."""
    line = first_line(error)
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
