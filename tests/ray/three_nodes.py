"""Three nodes of a Ray cluster on one machine: network namespaces on a bridge, `ray start` in each.

A job runs on all of them. Once a quarter of it is done, the second node is killed; at half, the
third is cut off from the network. With `--faults join` the job begins on the first two, and the
third is started once a quarter is done. The output must be that of one machine, byte for byte.

    sudo python tests/ray/three_nodes.py --vqtok target/release/vqtok --images PHOTOS \\
        --model MODEL --scratch DIR [--moto moto_server] [--faults none|join] [--shard-rows 50]

Run it with the Python that has Ray; it needs root, `ip`, and nothing else on 10.219.0.0/24. With
`--moto` the output lies in an S3 store that moto's server is, on the bridge; it needs boto3, and a
vqtok that was built with stores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

NET = "10.219.0"
NODES = (1, 2, 3)
BRIDGE = "vqt-br"
HEALTH = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
MODULE = Path(__file__).resolve().parents[2] / "pipelines" / "python" / "src"


def ip(*words: str, check: bool = True) -> str:
    """Run `ip`."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def pids(node: int) -> list[int]:
    """Give the processes of a node."""
    return [int(word) for word in ip("netns", "pids", f"vqt-{node}", check=False).split()]


def kill(node: int) -> None:
    """End a node at once, as a power cut does."""
    for pid in pids(node):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def cut(node: int) -> None:
    """Pull a node's cable."""
    ip("link", "set", f"vqt-v{node}", "down")


def clean() -> None:
    """Remove everything that `network` made."""
    for node in NODES:
        kill(node)
        ip("netns", "del", f"vqt-{node}", check=False)
        ip("link", "del", f"vqt-v{node}", check=False)
    ip("link", "del", BRIDGE, check=False)


def network() -> None:
    """Make a namespace for each node, and the bridge that joins them."""
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", f"{NET}.254/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    for node in NODES:
        space, outside, inside = f"vqt-{node}", f"vqt-v{node}", f"vqt-e{node}"
        ip("netns", "add", space)
        ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        ip("link", "set", inside, "netns", space)
        ip("link", "set", outside, "master", BRIDGE, "up")
        for words in (
            ("addr", "add", f"{NET}.{node}/24", "dev", inside),
            ("link", "set", "lo", "up"),
            ("link", "set", inside, "up"),
        ):
            ip("-n", space, *words)


class Cluster:
    """Ray on the three nodes."""

    def __init__(self, scratch: Path, vqtok: Path, cpus: int) -> None:
        home = scratch / "home"
        home.mkdir(parents=True, exist_ok=True)
        self.env = {
            **os.environ,
            "HOME": str(home),
            "PYTHONPATH": str(MODULE),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "VQTOK_BIN": str(vqtok),
        }
        token = home / "token"
        token.write_text(os.urandom(32).hex())
        token.chmod(0o600)
        self.ray = str(Path(sys.executable).with_name("ray"))
        self.scratch, self.cpus = scratch, cpus

    def run(self, node: int, words: list[str], **settings: object) -> subprocess.Popen[str]:
        """Start a command on a node."""
        words = ["ip", "netns", "exec", f"vqt-{node}", *words]
        return subprocess.Popen(words, env=self.env, text=True, **settings)

    def start(self, node: int) -> None:
        """Start a node; the head is the first."""
        where = ["--head", "--port=6379", f"--system-config={json.dumps(HEALTH)}"]
        if node != NODES[0]:
            where = [f"--address={NET}.{NODES[0]}:6379"]
        words = [
            self.ray, "start", *where, f"--node-ip-address={NET}.{node}",
            f"--num-cpus={self.cpus}", "--object-store-memory=100000000",
            "--disable-usage-stats",
        ]  # fmt: skip
        if node == NODES[0]:
            words += [f"--temp-dir={self.scratch}/r{node}", "--include-dashboard=false"]
        with open(self.scratch / f"node-{node}.log", "w") as log:
            done = self.run(node, words, stdout=log, stderr=log).wait()
        if done:
            sys.exit(f"node {node}: {(self.scratch / f'node-{node}.log').read_text()}")


class Harms:
    """What is done to the nodes on the way, each once so much of the job is done."""

    def __init__(self, cluster: Cluster, faults: str) -> None:
        self.cluster, self.begun = cluster, time.monotonic()
        self.at: dict[str, float] = {}
        self.due = {
            "both": [(0.25, "killed", 2, kill), (0.5, "cut off", 3, cut)],
            "join": [(0.25, "started", 3, self.start)],
            "none": [],
        }[faults]

    def start(self, node: int) -> None:
        """Let a node join, while the job goes on; it has joined once `ray start` ends."""

        def join() -> None:
            self.cluster.start(node)
            self.say("joined", f"node {node} has joined")

        threading.Thread(target=join, name="join").start()

    def say(self, what: str, text: str) -> None:
        """Take note of a moment."""
        self.at[what] = time.monotonic() - self.begun
        print(f"{self.at[what]:7.1f} s  {text}", flush=True)

    def look(self, done: float) -> None:
        """Do what is due, where that share of the job is done."""
        while self.due and done >= self.due[0][0]:
            _, what, node, harm = self.due.pop(0)
            self.say(what, f"node {node} is {what} at {done:.0%}")
            harm(node)


def job(cluster: Cluster, words: list[str], faults: str) -> tuple[int, list[dict], dict]:
    """Run the job on the first node, and do harm on the way; its exit code, events and harms."""
    script = ["-m", "vqtok.ray", "tokenize", *words, "--address", f"{NET}.1:6379", "--json"]
    driver = cluster.run(1, [sys.executable, *script], stdout=subprocess.PIPE)
    harms, events = Harms(cluster, faults), []
    assert driver.stdout is not None
    for line in driver.stdout:
        event = json.loads(line)
        event["at"] = time.monotonic() - harms.begun
        events.append(event)
        if event["event"] != "progress":
            print(f"{event['at']:7.1f} s  {event['message']}", flush=True)
        else:
            harms.look(event["done"] / max(1, event["total"]))
    return driver.wait(), events, harms.at


def recovery(events: list[dict], harms: dict) -> dict[str, float]:
    """Give the seconds from each harm until what was lost was known, and could be made again."""
    found = {}
    for harm, node in (("killed", 2), ("cut off", 3)):
        lost = [
            e["at"] - harms[harm]
            for e in events
            if e["event"] == "lost-worker" and e["node"] == f"{NET}.{node}"
        ]
        found[f"{harm}, known and made again"] = max(lost)
    return found


def joining(events: list[dict], harms: dict) -> dict[str, float]:
    """Give the seconds from when a node had joined until it had work, and until it gave images."""
    node = f"{NET}.3"
    at_work = [e["at"] for e in events if node in e.get("nodes", ()) and e["event"] == "progress"]
    images = [e["at"] for e in events if e.get("nodes", {}).get(node, 0) > 0]
    ready = [e["at"] for e in events if e["event"] == "worker" and e["node"] == node]
    moments = {"ready": ready, "at work": at_work, "with images": images}
    return {
        f"joined, {what}": min(moment, default=float("inf")) - harms["joined"]
        for what, moment in moments.items()
    }


class Store:
    """An S3 that forgets, on this machine's end of the bridge."""

    BUCKET = "vqtok-three-nodes"
    PORT = 5019

    def __init__(self, program: str, scratch: Path) -> None:
        self.env = {
            "AWS_ENDPOINT_URL": f"http://{NET}.254:{self.PORT}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        os.environ.update(self.env)
        words = [program, "-H", f"{NET}.254", "-p", str(self.PORT)]
        with open(scratch / "moto.log", "w") as log:
            self.server = subprocess.Popen(words, stdout=log, stderr=log)
        import boto3

        self.client = boto3.client("s3")
        for _ in range(60):
            try:
                self.client.create_bucket(Bucket=self.BUCKET)
                return
            except Exception:
                time.sleep(0.5)
        sys.exit("moto's server doesn't answer")

    def fetch(self, folder: Path) -> None:
        """Copy the output into a folder."""
        shutil.rmtree(folder, ignore_errors=True)
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.BUCKET, Prefix="out/"):
            for entry in page.get("Contents", []):
                path = folder / entry["Key"].removeprefix("out/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self.client.download_file(self.BUCKET, entry["Key"], str(path))


def same(whole: Path, out: Path) -> int:
    """Compare every file of two outputs; their number."""
    names = [sorted(p.relative_to(o) for o in [at] for p in at.rglob("*") if p.is_file())
             for at in (whole, out)]  # fmt: skip
    if names[0] != names[1]:
        sys.exit(f"other files: {set(names[0]) ^ set(names[1])}")
    differing = [n for n in names[0] if (whole / n).read_bytes() != (out / n).read_bytes()]
    if differing:
        sys.exit(f"other bytes: {differing}")
    return len(names[0])


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--vqtok", type=Path, required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--moto", help="moto_server: the output goes into a store")
    parser.add_argument("--faults", choices=["both", "join", "none"], default="both")
    parser.add_argument("--shard-rows", default="50")
    parser.add_argument("--cpus", type=int, default=1, help="slots of each node")
    args = parser.parse_args()
    scratch, vqtok = args.scratch.resolve(), args.vqtok.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    out = str(scratch / "out")
    shutil.rmtree(scratch / "out", ignore_errors=True)
    base = [args.images, "--model", args.model, "--shard-rows", args.shard_rows]
    whole = scratch / "whole"
    if not (whole / "dataset.json").exists():
        begun = time.monotonic()
        line = [vqtok, "tokenize", *base, "--out", whole]
        code = subprocess.run(line, capture_output=True).returncode
        print(f"one machine, no nodes: {time.monotonic() - begun:.1f} s, exit code {code}")
    store = None
    clean()
    try:
        network()
        if args.moto:
            store, out = Store(args.moto, scratch), f"s3://{Store.BUCKET}/out"
        cluster = Cluster(scratch, vqtok, args.cpus)
        for node in NODES[:2] if args.faults == "join" else NODES:
            cluster.start(node)
        code, events, harms = job(cluster, [*base, "--out", out], args.faults)
        if code not in (0, 1):
            sys.exit(f"exit code {code}")
        done = next(e for e in events if e["event"] == "tokenized")
        found = {"both": recovery, "join": joining, "none": lambda *_: {}}[args.faults](
            events, harms
        )
        if store:
            out = str(scratch / "fetched")
            store.fetch(Path(out))
    finally:
        clean()
        if store:
            store.server.kill()
    if not store:
        subprocess.run([vqtok, "finalize", out], capture_output=True)  # What zombies left goes.
    count = same(whole, Path(out))
    words = ", ".join(f"{harm} after {s:.1f} s" for harm, s in found.items())
    print(
        f"{done['images']} images, each once, in {done['seconds']:.1f} s; {count} files are those "
        f"of one machine; {words or 'no faults'}"
    )
    late = {harm: seconds for harm, seconds in found.items() if seconds > 30}
    if late:
        sys.exit(f"recovered too late: {late}")


if __name__ == "__main__":
    main()
