"""The flags of `vqtok tokenize` that a job on many machines takes, and who gets them.

A test holds this table to what the program itself says.
"""

PLAN = (
    "alpha", "append", "buckets", "caption-column", "hidden", "image-column", "key-column",
    "label-column", "label-level", "orientation", "pass", "pillow", "recipe", "resize",
    "shard-rows", "size", "views",
)  # fmt: skip
"""What a plan says: its workers find it there."""
SHARED = (
    "batch-size", "codes", "device", "family", "layout", "mean", "model", "model-config",
    "on-error", "onnxruntime", "out", "precision", "scales", "std", "threads", "weights",
)  # fmt: skip
"""What workers have to be told as well."""
SWITCHES = frozenset({"append", "hidden"})
"""Those without a value."""
OWN = frozenset(
    {"engine", "json", "list-only", "partition", "plan-only", "rank-from", "ranks", "retry-failed"}
)
"""Those that make no sense here, or are this command's own."""
