"""Looks for races in the CUDA kernels, by hand, on a machine with gcc or clang: no card is needed.

    python tests/interop/races/run.py

Each kernel runs with a thread for each of a block's threads under ThreadSanitizer: clean as it stands,
and reported with any one of its barriers taken out, in float32 and bfloat16. Exits 1 where a race
is found, where the lack of a barrier isn't, or where a kernel isn't run at all. Some seconds for each
barrier and element type.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
SOURCES = HERE.parents[2] / "src"
# Kernels, who runs them, element types.
KERNELS = [
    (["engine/cuda/kernels.cu", "engine/cuda/families.cu"], "threads.c", ["f32", "bf16"]),
    (["model/cuda/training.cu"], "training.c", ["f32"]),
]
BARRIER = "__syncthreads();"


def line_of(files, place):
    """The file and its line that a place of all files' text one behind another lies in."""
    for file in files:
        text = (SOURCES / file).read_text()
        if place < len(text):
            return f"{pathlib.Path(file).name}, line {text.count(chr(10), 0, place) + 1}"
        place -= len(text)


def races(folder, text, runner, element):
    """The functions that ThreadSanitizer names; None where the run ended without a report."""
    (folder / "kernels.cu").write_text(text)
    flags = ["-DVQTOK_BF16"] if element == "bf16" else []
    subprocess.run(
        ["cc", "-O1", "-g", "-fsanitize=thread", "-Wno-tsan", *flags]
        + [f'-DKERNELS="{folder}/kernels.cu"', "-o", folder / "threads", HERE / runner]
        + ["-lm", "-lpthread"],
        check=True,
    )
    # ThreadSanitizer needs addresses as they were before kernels shuffled them further.
    done = subprocess.run(
        ["setarch", "-R", folder / "threads"],
        capture_output=True,
        text=True,
        env={"TSAN_OPTIONS": "halt_on_error=1 exitcode=66"},
    )
    if done.returncode == 0 and "all ran" in done.stdout:
        return None
    if done.returncode != 66:
        sys.exit(f"no run: {done.returncode} {done.stderr}")
    found = re.search(r"#0 (\w+)", done.stderr)
    return found.group(1) if found else "?"


def main():
    wrong = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for files, runner, elements in KERNELS:
            text = "".join((SOURCES / file).read_text() for file in files)
            run = (HERE / runner).read_text()
            left_out = [k for k in re.findall(r"^KERNEL (\w+)", text, re.M) if not re.search(rf"\b{k}\(", run)]
            if left_out:
                sys.exit(f"{runner} doesn't run {left_out}")
            places = [found.start() for found in re.finditer(re.escape(BARRIER), text)]
            for element in elements:
                whole = races(folder, text, runner, element)
                print(f"{element}: {' and '.join(files)} as they stand: {whole or 'clean'}", flush=True)
                wrong += whole is not None
                count += len(places)
                for place in places:
                    without = text[:place] + text[place + len(BARRIER) :]
                    # What ThreadSanitizer remembers of an address is little: it may forget the one access.
                    tries = (races(folder, without, runner, element) for _ in range(4))
                    found = next((name for name in tries if name), None)
                    print(f"{element}: without {line_of(files, place)}: {found or 'NOT FOUND'}", flush=True)
                    wrong += found is None
    print(f"{count} barriers, {wrong} wrong")
    sys.exit(wrong > 0)


main()
