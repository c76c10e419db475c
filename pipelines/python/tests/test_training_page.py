"""The snippets of TRAINING.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "TRAINING.md"


@pytest.mark.parametrize("settings", [{}, {"views": "flips"}], ids=["one view", "flips"])
def test_the_snippets_run(place, tmp_path, settings):
    pytest.importorskip("torch")
    import vqtok

    vqtok.tokenize(place / "images", out=tmp_path / "tokens", model=place / "model", **settings)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M))
    assert code.count("print(") > 8
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    rows = 60 if settings else 30
    assert said[0] == f"{rows} (4, 4) 16 ('ant', 'bee', 'zebra')"
    assert "[7, 7, 7, 7]" in said or "[15, 15, 15, 15]" in said
    assert "30 images" in said and "{16}" in said
