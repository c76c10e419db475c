"""Ray: the flags, what slots need, and one real job where Ray is installed."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

import vqtok
from vqtok import _flags
from vqtok._cluster import reach
from vqtok._needs import Needs, needs_of
from vqtok._schedule import Failed
from vqtok.ray import _check, _parser, _words


def flags_of(command):
    program = vqtok.find_vqtok_bin()
    told = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=True)
    found = re.findall(r"^\s+(?:-\w, )?--([a-z-]+)( <)?", told.stdout, re.MULTILINE)
    return {name: bool(value) for name, value in found if name != "help"}


def test_every_flag_of_the_program_is_known():
    tokenize, worker = flags_of("tokenize"), flags_of("worker")
    assert set(tokenize) == {*_flags.PLAN, *_flags.SHARED, *_flags.OWN}
    assert set(worker) == set(_flags.SHARED)
    switches = {name for name in (*_flags.PLAN, *_flags.SHARED) if not tokenize[name]}
    assert switches == _flags.SWITCHES


def test_flags_go_where_they_belong():
    line = "a --size 64 --out o --append b --model m --pass x --pass=-y --device cuda"
    args = _parser().parse_intermixed_args([*line.split(), "--slots", "3"])
    assert (args.inputs, args.slots) == (["a", "b"], 3)
    assert _words(args, _flags.PLAN) == ["--append", "--pass=x", "--pass=-y", "--size=64"]
    assert _words(args, _flags.SHARED) == ["--device=cuda", "--model=m", "--out=o"]


@pytest.mark.parametrize("word", ["--retry-failed", "--partition=0/2", "--siz=3"])
def test_flags_that_make_no_sense_are_refused(word, capsys):
    with pytest.raises(SystemExit) as raised:
        _parser().parse_intermixed_args(["a", "--out", "o", "--model", "m", word])
    assert raised.value.code == 2 and word in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--cpus -1", "--gpus nan", "--wait -1", "--slots 0", ""])
def test_what_cannot_be_is_refused_before_anything_starts(words, tmp_path):
    line = f"a --out o --model {tmp_path}/none {words}"
    with pytest.raises(Failed, match=words.split()[0] if words else "no such file or folder"):
        _check(_parser().parse_intermixed_args(line.split()))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "slots"),
    [
        (1, 0, {"CPU": 8.0, "memory": 1.0}, 8),
        (3, 0, {"CPU": 8.0}, 2),
        (0.5, 0, {"CPU": 2.0}, 4),
        (4, 1, {"CPU": 16.0, "GPU": 8.0}, 4),
        (1, 1, {"CPU": 16.0, "GPU": 8.0}, 8),
        (1, 0.5, {"CPU": 16.0, "GPU": 2.0}, 4),
        (1, 0.4, {"CPU": 16.0, "GPU": 2.0}, 4),
        (0, 0.1, {"CPU": 1.0, "GPU": 1.0}, 10),
        (1, 2, {"CPU": 16.0, "GPU": 5.0}, 2),
        (1, 1, {"CPU": 16.0}, 0),
    ],
)
def test_slots_of_a_node(cpus, gpus, node, slots):
    assert Needs(cpus, gpus).on(node) == slots


def test_an_address_where_nobody_answers_is_told_soon():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        reach(f"127.0.0.1:{port}")
        reach(f"ray://127.0.0.1:{port}")
    begun = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://[::1]:{port}", "127.0.0.1:99999", "no.invalid:1"):
        with pytest.raises(Failed, match=r"nobody answers there .* --address names it"):
            reach(address, 1.5)
    assert time.monotonic() - begun < 20
    reach("auto")
    reach("local")


def command(place, out, *more):
    words = [sys.executable, "-m", "vqtok.ray", "tokenize", place / "images", "--out", out]
    env = {**os.environ, "PYTHONPATH": str(Path(vqtok.__file__).parents[1])}
    return subprocess.run(
        [*words, "--model", place / "model", *more], capture_output=True, text=True, env=env
    )


def test_without_ray_the_extra_is_named(place, tmp_path):
    try:
        import ray  # noqa: F401
    except ImportError:
        done = command(place, tmp_path / "out")
        assert done.returncode == 2 and "pip install 'vqtok[ray]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        pytest.skip("Ray is installed")


def test_a_job_on_ray(place, output, tmp_path):
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'vqtok[ray]'")
    done = command(place, tmp_path / "out", "--shard-rows=7", "--slots", "2", "--json")
    assert done.returncode == 0, done.stderr
    events = {e["event"]: e for e in map(json.loads, done.stdout.splitlines())}
    assert events["tokenized"]["images"] == 30 and events["dataset"]["shards"] == 5
    for path in output.rglob("*"):
        if path.is_file():
            made = tmp_path / "out" / path.relative_to(output)
            assert made.read_bytes() == path.read_bytes(), path
    again = command(place, tmp_path / "out", "--shard-rows=7", "--slots", "2", "--json")
    assert again.returncode == 0 and "0 of 5 partitions" in again.stdout
    other = command(place, tmp_path / "out", "--shard-rows=6")
    assert other.returncode == 2 and "--shard-rows" in other.stderr
    late = command(place, tmp_path / "late", "--cpus", "4096", "--wait", "3")
    assert late.returncode == 75 and "no worker could be placed for 3 s" in late.stderr


def test_partitions_that_end_every_worker_become_failures(place, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'vqtok[ray]'")
    # Each worker panics at the first image that it decodes.
    monkeypatch.setenv("VQTOK_FAILPOINT", "decode:1:panic")
    done = command(place, tmp_path / "out", "--shard-rows=15", "--slots", "2", "--json")
    assert done.returncode == 1, done.stderr
    events = {e["event"]: e for e in map(json.loads, done.stdout.splitlines())}
    told = events["tokenized"]
    assert (told["deaths"], told["given_up"], told["failed"]) == (6, 2, 30)
    assert (events["dataset"]["written"], events["dataset"]["failed"]) == (0, 30)


def test_parts_of_several_gpus_are_refused():
    with pytest.raises(Failed, match="whole ones"):
        needs_of(Namespace(device=["cuda"], gpus=1.5, cpus=1))


def test_what_ray_prints_is_no_event(tmp_path):
    script = (
        "import os\nfrom vqtok._progress import Progress\np = Progress(True)\n"
        "print('(raylet) lost')\nos.write(1, b'more of it\\n')\np.say('worker', 'ready')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(vqtok.__file__).parents[1])}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    assert json.loads(done.stdout) == {"event": "worker", "message": "ready"}
    assert "raylet" in done.stderr and "more of it" in done.stderr
