"""A worker's process: what it answers, how it ends, that it is started again."""

import time

import pytest

import vqtok
from vqtok._worker import Worker

READY = 'printf \'{"event":"ready"}\\n\'; '
ANSWER = 'printf \'{"event":"receipt","partition":3,"commit":"committed"}\\n\'; '
BEAT = 'printf \'{"event":"heartbeat","partition":3,"done":5}\\n\'; '


def test_real_partitions(place, tmp_path):
    flags = [f"--out={tmp_path / 'out'}", f"--model={place / 'model'}"]
    vqtok.run(["tokenize", place / "images", *flags, "--shard-rows=7", "--plan-only"])
    worker = Worker(flags)
    assert worker.start()["version"]
    assert [worker.run(n, 0)["commit"] for n in (4, 0)] == ["committed", "committed"]
    assert worker.run(9, 0)["exit_code"] == 2
    worker.stop()
    assert worker.run(0, 0)["commit"] == "already"
    for n in (1, 2, 3):
        assert worker.run(n, 0)["event"] == "receipt"
    worker.stop()
    assert vqtok.run(["finalize", tmp_path / "out"]).exit_code == 0


def test_a_worker_that_dies_is_started_again(stand_in, tmp_path):
    stand_in(
        f"{READY} read line; {BEAT} echo x >> {tmp_path}/lives\n"
        f"if test $(wc -l < {tmp_path}/lives) -lt 3; then kill -9 $$; fi\n{ANSWER}"
    )
    worker = Worker(["--out=o"])
    died = [worker.run(3, 0) for _ in range(2)]
    assert [answer["event"] for answer in died] == ["died", "died"]
    assert died[0]["message"] == "signal 9" and worker.done == 5
    assert worker.run(3, 2)["event"] == "receipt"


@pytest.mark.parametrize(
    ("ending", "event", "message"),
    [
        ("echo 'vqtok: internal error' >&2; exit 70", "died", "exit code 70: internal error"),
        ("kill -15 $$", "stopped", "exit code -15"),
        ("echo 'vqtok: stopped by a signal' >&2; exit 75", "stopped", "stopped by a signal"),
    ],
)
def test_ends_are_told_apart(stand_in, ending, event, message):
    stand_in(f"{READY} read line; {ending}")
    answer = Worker([]).run(3, 0)
    assert (answer["event"], answer["message"]) == (event, message)


def test_a_worker_that_hangs_is_ended(stand_in):
    stand_in(f"{READY} read line; exec sleep 600")
    begun = time.monotonic()
    answer = Worker([], silent_max=0.5).run(3, 0)
    assert time.monotonic() - begun < 10
    assert answer["event"] == "died" and "no sign of life" in answer["message"]


def test_one_that_cannot_be_used_says_why(stand_in):
    stand_in("echo 'vqtok: no such model' >&2; exit 2")
    with pytest.raises(vqtok.Error, match="no such model") as raised:
        Worker([]).start()
    assert raised.value.exit_code == 2
