"""Hugging Face's `datasets`."""

import subprocess
import sys

import pytest


def test_it_knows_the_classes(dataset):
    datasets = pytest.importorskip("datasets")
    found = dataset.hf()
    assert found.num_rows == 30
    assert found.features["label_id"] == datasets.ClassLabel(names=["ant", "bee", "zebra"])
    assert found.features["tokens"].length == 16
    assert found.features["tokens"].feature == datasets.Value("uint16")
    assert found[29]["tokens"] == dataset.table(["tokens"])["tokens"][29].as_py()
    assert found[0]["label_id"] is None
    assert dataset.hf(["key", "label_id"]).column_names == ["key", "label_id"]


def test_without_it_the_extra_is_named(output):
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        f"import vqtok\ntry: vqtok.open({str(output)!r}).hf()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Dataset.hf needs datasets: pip install 'vqtok[datasets]'\n"
