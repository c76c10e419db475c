"""`python -m vqtok.ray tokenize`: one output, made by all nodes of a Ray cluster.

An actor for each CPU or GPU slot holds one `vqtok worker`, which loads the model once; partitions
of the plan are handed out largest first. Nodes may come and go. What a lost node was at is made
again by others, and the commit protocol keeps what is there first, so that the shards are those of
one machine, byte for byte. Every node needs this package (with the program) in the same version,
and the inputs, the model and the output under the same names: a shared folder, or an object store.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from . import _flags
from ._cluster import connect
from ._errors import Error, MissingExtra
from ._needs import needs_of
from ._pool import RayPool
from ._progress import Progress
from ._schedule import Failed, Partition, Schedule, coordinate


def _parser() -> argparse.ArgumentParser:
    tokenize = argparse.ArgumentParser(
        prog="python -m vqtok.ray tokenize",
        allow_abbrev=False,
        description="Tokenize on all nodes of a Ray cluster; the flags of `vqtok tokenize` beside "
        "those below. Run again after any failure, it goes on.",
        epilog="Exit codes: 0 clean, 1 finished with failures, 2 fatal, 75 try again later, 130 "
        "and 143 stopped by SIGINT and SIGTERM.",
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
    _check(args)
    begun = time.monotonic()
    connect(args.address or os.environ.get("RAY_ADDRESS"))
    # As Ctrl-C: what a scheduler ends goes on later. Ray has put its own handler there.
    signal.signal(signal.SIGTERM, _terminate)
    needs = needs_of(args)
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

    def tell() -> None:
        progress.tell(schedule, pool.under_way(schedule.in_work()))

    if todo:
        pool.start(_words(args, _flags.SHARED))
        coordinate(schedule, pool, tell)
        pool.drop(busy=True)
    worked = time.monotonic()
    _summary(progress, schedule, worked - working, working - begun)
    done = pool.call(["finalize", *args.out[-1:]])
    dataset = done.event("dataset") or {}
    shards = int(dataset.get("shards", 0))
    text = (
        f"{dataset.get('dir')}: {dataset.get('planned', 0):,} images planned, "
        f"{dataset.get('written', 0):,} written, {dataset.get('failed', 0):,} failed, in "
        f"{shards:,} {'shard' if shards == 1 else 'shards'}"
    )
    progress.result("dataset", text, **{k: v for k, v in dataset.items() if k != "event"})
    return done.exit_code


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _check(args: argparse.Namespace) -> None:
    """Refuse what can't be before anything is started."""
    if args.slots is not None and args.slots < 1:
        raise Failed(f"--slots {args.slots}: at least one worker")
    for name in ("cpus", "gpus", "wait"):
        number = getattr(args, name)
        if number is not None and not 0 <= number < math.inf:
            raise Failed(f"--{name} {number:g}: a number of 0 or more")
    model = args.model[-1]
    # The program would train one, on one slot and without a word.
    if "://" not in model and not os.path.exists(model):
        raise Failed(f"--model {model}: there is no such file or folder; `vqtok train` makes one")


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
    except _Terminated:
        code = 143
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
