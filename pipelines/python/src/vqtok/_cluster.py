"""The cluster that a job runs on: importing Ray, joining, how soon a node counts as lost."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from ._errors import MissingExtra, first_line
from ._schedule import Failed

HEALTH = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
"""How soon a node counts as lost that doesn't answer: for `ray start --head --system-config`."""


def import_ray() -> Any:
    """Import Ray."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("vqtok.ray", "ray", "ray") from None
    return ray


REACHED_WITHIN = 30.0
"""Seconds that a cluster has to answer at its address: Ray tries for minutes, without a word."""


def reach(address: str, seconds: float = REACHED_WITHIN) -> None:
    """Find that somebody listens at an address, where it is one of a host and port.

    Raises:
        Failed: Nobody does.
    """
    place = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address)
    if not place:
        return
    end = time.monotonic() + seconds
    while True:
        try:
            left = max(0.1, min(5.0, end - time.monotonic()))
            socket.create_connection((place[1], int(place[2])), timeout=left).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() + 1 >= end:
                raise Failed(
                    f"{address}: nobody answers there ({first_line(error)}); `ray start --head` "
                    "begins a cluster and says its address, --address names it"
                ) from None
            time.sleep(1)


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine.

    Raises:
        Failed: There is none at that address, or it wants another token.
    """
    if address:
        reach(address)
    if address and "RAY_AUTH_MODE" not in os.environ:
        # `ray start --head` of 2.60 turns tokens on, and a driver doesn't find that out by itself.
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        if "RAY_AUTH_TOKEN" in os.environ or Path(path).is_file():
            os.environ["RAY_AUTH_MODE"] = "token"
    ray = import_ray()
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if not address:
        settings.update(include_dashboard=False, _system_config=HEALTH)
    try:
        ray.init(address=address or "local", **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise Failed(
            f"{address or 'ray'}: {reason}; a cluster with token authentication wants "
            "RAY_AUTH_MODE=token, and the token of its head (~/.ray/auth_token there) named by "
            "RAY_AUTH_TOKEN_PATH, here and on every node"
        ) from None
