"""What Ray costs on one machine: the same job by one process and by Ray, in turns, at equal slots.

    python tests/ray/overhead.py --vqtok target/release/vqtok --images PHOTOS --model MODEL \\
        --scratch DIR [--rounds 5] [--slots 2] [--shard-rows 50]

Run it with the Python that has Ray. Seconds are those of the phase that tokenizes, with the start
of Ray's workers and without that of Ray; CPU seconds are those of all processes from the first to
the last, Ray's own included. The load average stands beside each run: other work on the machine
counts against whoever runs with it, so that medians are compared, and CPU seconds say the most.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "pipelines" / "python" / "src"


class Usage:
    """CPU seconds of all that is started in a group of its own, where there are such groups."""

    def __init__(self, name: str) -> None:
        """Make the group; who ends in the midst of its work leaves it empty."""
        self.group = Path("/sys/fs/cgroup/cpuacct") / name
        try:
            self.group.mkdir(exist_ok=True)
        except OSError:
            self.group = Path()

    def enter(self) -> None:
        """Join the group, before a program takes the process over."""
        if self.group.name:
            (self.group / "tasks").write_text(str(os.getpid()))

    def seconds(self) -> float:
        """Read how many there were so far."""
        if self.group.name:
            return int((self.group / "cpuacct.usage").read_text()) / 1e9
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime


def run(words: list[str], usage: Usage, env: dict[str, str]) -> tuple[float, float, float]:
    """Run a job: seconds of its tokenizing, of all of it, and CPU seconds."""
    begun, used = time.monotonic(), usage.seconds()
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env,
        preexec_fn=usage.enter,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        sys.exit(f"{words[0]}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    all_of_it, cpu = time.monotonic() - begun, usage.seconds() - used
    events = (json.loads(line) for line in done.stdout.splitlines())
    told = next(event for event in events if event["event"] == "tokenized")
    return float(told["seconds"]), all_of_it, cpu


def same(one: Path, other: Path) -> bool:
    """Compare two outputs, byte for byte."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    others = sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    return names == others and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names
    )


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--vqtok", type=Path, required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", default="2")
    parser.add_argument("--shard-rows", default="50")
    args = parser.parse_args()
    vqtok, scratch = str(args.vqtok.resolve()), args.scratch.resolve()
    env = {**os.environ, "PYTHONPATH": str(MODULE), "VQTOK_BIN": vqtok}
    base = ["tokenize", args.images, "--model", args.model, "--shard-rows", args.shard_rows]
    jobs = {
        "local": [vqtok, *base, "--threads", args.slots],
        "ray": [sys.executable, "-m", "vqtok.ray", *base, "--slots", args.slots],
    }
    usage = Usage(f"vqtok-overhead-{os.getpid()}")
    found: dict[str, list[tuple[float, float, float]]] = {who: [] for who in jobs}
    for number in range(args.rounds):
        for who, words in jobs.items():
            out = scratch / who
            shutil.rmtree(out, ignore_errors=True)
            seconds = run([*words, "--out", str(out), "--json"], usage, env)
            found[who].append(seconds)
            load = os.getloadavg()[0]
            print(
                f"{number + 1} {who:5}  tokenizing {seconds[0]:6.1f} s  all {seconds[1]:6.1f} s  "
                f"CPU {seconds[2]:6.1f} s  load {load:.1f}",
                flush=True,
            )
        if not same(scratch / "local", scratch / "ray"):
            sys.exit("the outputs differ")
    for at, what in enumerate(("tokenizing", "all", "CPU")):
        local, ray = (statistics.median(one[at] for one in found[who]) for who in jobs)
        print(f"median {what:10}  local {local:.1f} s  ray {ray:.1f} s  {ray / local - 1:+.1%}")


if __name__ == "__main__":
    main()
