"""The program from Python: what it gives back, what it raises, how it is stopped."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import png

import vqtok


def test_settings_are_flags(stand_in):
    stand_in(
        'for word; do printf \'{"event":"word","word":"%s"}\\n\' "$word"; done\n'
        'printf \'{"event":"waiting","missing":3,"partitions":5}\\n\''
    )
    summary = vqtok.tokenize(
        ["a", "-b"],
        out="o",
        model="m",
        batch_size=4,
        append=True,
        hidden=False,
        size=None,
        pass_=["x", "y"],
        views="flips",
    )
    words = [event["word"] for event in summary.events if event["event"] == "word"]
    assert words == [
        "tokenize",
        "--batch-size=4",
        "--append",
        "--pass=x",
        "--pass=y",
        "--views=flips",
        "--out=o",
        "--model=m",
        "--json",
        "--",
        "a",
        "-b",
    ]
    assert (summary.finished, summary.missing, summary.written) == (False, 3, None)


def test_a_finished_output_is_done_at_once(place, output):
    seen = []
    summary = vqtok.tokenize(
        str(place / "images"), out=output, model=place / "model", shard_rows=7, on_event=seen.append
    )
    assert summary.finished and summary.missing == 0
    counts = (summary.planned, summary.written, summary.failed, summary.rows, summary.tokens)
    assert counts == (30, 30, 0, 30, 30 * 16)
    assert [event["event"] for event in seen][-1] == "dataset"
    assert len(summary.open()) == 30


def test_failures_are_counted_and_told(place, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    (tmp_path / "good.png").write_bytes(png(1))
    (tmp_path / "folder").mkdir()
    summary = vqtok.tokenize(tmp_path, out=tmp_path / "out", model=place / "model")
    assert (summary.exit_code, summary.written, summary.failed) == (1, 1, 1)
    assert [event["key"] for event in summary.failures] == ["broken.png"]
    failures = summary.open().failures().to_pylist()
    assert [(row["key"], row["stage"]) for row in failures] == [("broken.png", "decode")]


def test_an_error_has_the_programs_own_line(place, tmp_path):
    with pytest.raises(vqtok.Error) as raised:
        vqtok.tokenize(tmp_path / "nowhere", out=tmp_path / "out", model=place / "model")
    assert raised.value.exit_code == 2 and not isinstance(raised.value, vqtok.Unfinished)
    assert "nowhere" in str(raised.value) and "\n" not in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.exit_code) == (str(raised.value), 2)


def test_a_setting_that_isnt_there_is_named(place, tmp_path):
    with pytest.raises(vqtok.Error, match="--colour") as raised:
        vqtok.tokenize(place / "images", out=tmp_path / "o", model=place / "model", colour="red")
    assert raised.value.exit_code == 2


def test_no_input_is_an_error():
    with pytest.raises(ValueError, match="src is empty"):
        vqtok.tokenize([], out="o", model="m")


@pytest.mark.parametrize(("code", "kind"), [(75, vqtok.Unfinished), (70, vqtok.Error)])
def test_exit_codes_have_their_exceptions(stand_in, code, kind):
    stand_in(f'printf \'{{"event":"error","message":"it is so"}}\\n\'; exit {code}')
    with pytest.raises(vqtok.Error, match=r"^it is so$") as raised:
        vqtok.run(["verify", "x"])
    assert type(raised.value) is kind and raised.value.exit_code == code


def test_last_words_are_told_where_there_is_no_event(stand_in):
    stand_in("echo 'no such library' >&2; exit 127")
    with pytest.raises(vqtok.Error, match=r"^no such library$"):
        vqtok.run(["verify", "x"])
    stand_in("kill -9 $$")
    with pytest.raises(vqtok.Error, match=r"^vqtok ended with exit code -9$"):
        vqtok.run(["verify", "x"])


def test_full_pipes_stop_nobody(stand_in):
    """Megabytes on stderr while events are read, and the other way around."""
    stand_in(
        "head -c 3000000 /dev/zero | tr '\\0' 'e' >&2\n"
        'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf \'{"event":"progress","i":%d}\\n\' $i\n'
        'done; printf \'{"event":"done"}\\n\''
    )
    seen = []
    result = vqtok.run(["verify", "x"], on_event=seen.append)
    assert [event["event"] for event in result.events] == ["done"]
    assert len(seen) == 3001


def test_events_come_while_it_runs(stand_in):
    stand_in('printf \'{"event":"first"}\\n\'; sleep 1; printf \'{"event":"last"}\\n\'')
    times = []
    vqtok.run(["verify", "x"], on_event=lambda _: times.append(time.monotonic()))
    assert times[1] - times[0] > 0.8


def test_an_exception_of_the_listener_stops_it(stand_in, tmp_path):
    stand_in(
        f"trap 'echo stopped >{tmp_path}/said; exit 130' INT\n"
        'printf \'{"event":"first"}\\n\'; while :; do sleep 0.1; done'
    )

    def listen(event):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        vqtok.run(["verify", "x"], on_event=listen)
    assert (tmp_path / "said").read_text() == "stopped\n"


def test_results_of_other_commands(output):
    result = vqtok.run(["verify", output])
    assert result.exit_code == 0 and result.event("verified")["rows"] == 30
    assert result.event("nothing") is None
    assert vqtok.run(["recipe", "list"]).exit_code == 0


def test_two_at_once_from_threads(place, tmp_path):
    def job(name):
        return vqtok.tokenize(place / "images", out=tmp_path / name, model=place / "model")

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(job, ["a", "b"]))
    assert [summary.written for summary in found] == [30, 30]
    shards = [next((tmp_path / name / "tokens").iterdir()).read_bytes() for name in ("a", "b")]
    assert shards[0] == shards[1]


def interrupted(source, **options):
    """Run Python code that says `ready`, and press Ctrl-C then: everything in its process group
    gets the signal, as on a terminal.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        **options,
    )
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=30)
    return out, err


CODE = """
import sys, vqtok
def heard(event):
    print(event["event"], flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
except vqtok.Error as error:
    print(error.exit_code, flush=True)
"""

SCRIPT = (
    "trap 'n=$((n+1))' INT\n"
    'printf \'{"event":"ready"}\\n\'; i=0\n'
    "while [ $i -lt 12 ]; do i=$((i+1)); sleep 0.1; done\n"
    'echo "$n" >"$SAID"; exit 130'
)


@pytest.mark.parametrize(
    ("call", "end"),
    [
        ('vqtok.run(["x"], on_event=heard)', "interrupted"),
        (
            "import concurrent.futures as f\n"
            "    with f.ThreadPoolExecutor(1) as pool:\n"
            '        pool.submit(vqtok.run, ["x"], on_event=heard).result()',
            "interrupted",
        ),
    ],
    ids=["main thread", "another thread"],
)
def test_ctrl_c_reaches_it_once_and_is_waited_for(stand_in, tmp_path, call, end):
    stand_in(SCRIPT)
    said = tmp_path / "said"
    out, err = interrupted(CODE.format(call=call), env={**os.environ, "SAID": str(said)})
    assert out == end + "\n", err
    assert said.read_text() == "1\n"


def test_ctrl_c_leaves_a_job_that_goes_on(place, tmp_path):
    """The real program, training: it stops cleanly and the same call goes on."""
    recipe = tmp_path / "long.toml"
    recipe.write_text((place / "tiny.toml").read_text().replace("steps = 8", "steps = 100000"))
    call = (
        f"vqtok.tokenize({str(place / 'images')!r}, out={str(tmp_path / 'out')!r}, "
        f"model={str(tmp_path / 'model')!r}, recipe={str(recipe)!r}, "
        "on_event=lambda e: e['event'] == 'estimate' and print('ready', flush=True))"
    )
    out, err = interrupted(CODE.format(call=call))
    assert out == "interrupted\n" and "Traceback" not in err, err


def test_it_runs_without_a_terminal_or_a_main_thread(output):
    """As in a notebook's worker: no stdin, another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(vqtok.run(["inspect", output])))
    thread.start()
    thread.join()
    assert found[0].exit_code == 0
