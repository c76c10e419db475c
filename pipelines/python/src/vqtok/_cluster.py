"""The cluster that a job runs on: importing Ray, joining, how soon a node counts as lost."""

from __future__ import annotations

import os
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
