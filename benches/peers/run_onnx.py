"""An encoder in an ONNX file in Python's onnxruntime: bytes [N, side, side, 3] in, codes out.

Usage: run_onnx.py ENCODER.onnx IMAGES.rgb SIDE BATCH; answers each line of stdin: `tokens` with the
codes of all images, `run` with the wall seconds of encoding all of them, batch by batch.
"""

import sys
import time

import numpy as np
import onnxruntime


def main():
    file, images, side, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    pixels = np.fromfile(images, np.uint8).reshape(-1, side, side, 3)
    batches = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for line in sys.stdin:
        started = time.perf_counter()
        codes = [session.run(None, {name: batch})[0] for batch in batches]
        seconds = time.perf_counter() - started
        if line.strip() == "tokens":
            print(*(code for some in codes for code in some.reshape(-1)), flush=True)
        else:
            print(seconds, flush=True)


main()
