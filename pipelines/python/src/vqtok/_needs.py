"""What a slot takes of its node, and how many a node has."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ._cluster import import_ray
from ._schedule import Failed


@dataclass
class Needs:
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


def needs_of(args: argparse.Namespace) -> Needs:
    device = (args.device or ["auto"])[-1]
    on_gpu = device.startswith(("cuda", "tensorrt"))
    gpus = args.gpus if args.gpus is not None else (1.0 if on_gpu else 0.0)
    if gpus > 1 and gpus % 1:
        raise Failed(f"--gpus {gpus:g}: a part of one GPU, or whole ones")
    if args.cpus is not None:
        return Needs(args.cpus, gpus)
    if not gpus:
        return Needs(1.0, 0.0)
    # Decoding wants the cores that come with a GPU; those of the poorest node.
    shares = [
        node["Resources"].get("CPU", 1.0) / node["Resources"]["GPU"] * gpus
        for node in import_ray().nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0.0) > 0
    ]
    return Needs(float(max(1, int(min(shares, default=1.0)))), gpus)
