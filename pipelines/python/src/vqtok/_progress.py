"""What a job on a cluster says while it works."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter, deque
from typing import Any

from ._schedule import Schedule


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

    def tell(self, schedule: Schedule, under_way: Counter[str]) -> None:
        """Say how far the work is, every few seconds; under way are images by their nodes."""
        now = time.monotonic()
        if now - self._last < (self.INTERVAL_JSON if self.as_json else self.INTERVAL):
            return
        self._last = now
        by_node = Counter(schedule.totals.by_node)
        by_node.update(under_way)
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
