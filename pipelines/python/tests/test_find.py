"""Where the program is looked for."""

import subprocess
import sys
import sysconfig

import pytest

import vqtok


def program(folder):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vqtok"
    path.write_text('#!/bin/sh\necho here: "$@"\nexit 7\n')
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No program in any of the places."""
    monkeypatch.delenv("VQTOK_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(vqtok._find, "__file__", str(tmp_path / "target" / "vqtok" / "_find.py"))
    places = {None: tmp_path / "scripts", "user": tmp_path / "user"}

    def get_path(name, scheme=None, vars=None):
        assert name == "scripts"
        return str(tmp_path / "base" if vars else places["user" if scheme else None])

    monkeypatch.setattr(sysconfig, "get_path", get_path)


def test_it_is_found_where_installers_put_it(tmp_path, monkeypatch):
    """The later places first, so that each wins over those below it."""
    for folder in ("path", "user", "target/bin", "base", "scripts"):
        path = program(tmp_path / folder)
        assert vqtok.find_vqtok_bin() == str(path), folder
    named = program(tmp_path / "named")
    monkeypatch.setenv("VQTOK_BIN", str(named))
    assert vqtok.find_vqtok_bin() == str(named)


def test_below_a_prefix(tmp_path, monkeypatch):
    module = tmp_path / "p" / "lib" / "python3.11" / "site-packages" / "vqtok" / "_find.py"
    monkeypatch.setattr(vqtok._find, "__file__", str(module))
    path = program(tmp_path / "p" / "bin")
    assert vqtok.find_vqtok_bin() == str(path)


def test_what_isnt_there_is_told(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="VQTOK_BIN=PATH names one"):
        vqtok.find_vqtok_bin()
    monkeypatch.setenv("VQTOK_BIN", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="gone: no program there"):
        vqtok.find_vqtok_bin()


def test_python_m_vqtok_is_the_program(tmp_path, monkeypatch):
    monkeypatch.setenv("VQTOK_BIN", str(program(tmp_path / "named")))
    line = [sys.executable, "-m", "vqtok", "tokenize", "--help"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "here: tokenize --help\n")
