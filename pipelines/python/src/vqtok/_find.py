"""Where the program is."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def find_vqtok_bin() -> str:
    """Give the path of the program `vqtok`.

    It is the one that the environment variable `VQTOK_BIN` names, else the one that was installed
    with this package, else the first on `PATH`.

    Raises:
        FileNotFoundError: There is none; the message says what to do.
    """
    named = os.environ.get("VQTOK_BIN")
    if named:
        if not _runs(Path(named)):
            raise FileNotFoundError(f"VQTOK_BIN={named}: no program there; name the vqtok binary")
        return named
    for folder in _folders():
        program = Path(folder) / "vqtok"
        if _runs(program):
            return str(program)
    found = shutil.which("vqtok")
    if found:
        return found
    raise FileNotFoundError(
        "no program vqtok here: `pip install vqtok` or `cargo install --path .` brings it, "
        "VQTOK_BIN=PATH names one"
    )


def _folders() -> Iterator[str]:
    """Give the folders that installers put programs into, the likeliest first."""
    yield sysconfig.get_path("scripts")
    yield sysconfig.get_path("scripts", vars={"base": sys.base_prefix})
    module = Path(__file__).resolve().parent
    # pip install --target DIR: DIR/vqtok and DIR/bin.
    yield str(module.parent / "bin")
    # pip install --prefix DIR: DIR/lib/python3.N/site-packages/vqtok and DIR/bin.
    if module.parent.name in ("dist-packages", "site-packages") and len(module.parents) > 3:
        yield str(module.parents[3] / "bin")
    if sys.version_info >= (3, 10):
        user = sysconfig.get_preferred_scheme("user")
    else:
        user = "osx_framework_user" if sys.platform == "darwin" and sys._framework else "posix_user"
    yield sysconfig.get_path("scripts", scheme=user)


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)
