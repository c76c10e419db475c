"""Makes the small ONNX tokenizers of tests/data/onnx and what Python's onnxruntime gives for them, and
those of tests/data/onnx_refused, which vqtok refuses.

By hand, with the packages onnx, onnxruntime and numpy:  python make_models.py ../../data/onnx ../../data/onnx_refused

Every model finds the nearest of some colours for each 4 x 4 pixels: the mean of a patch against a
book, as a convolution, a distance and an argmin. What differs is how pixels go in and codes come out.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as n

FACTOR, CODES = 4, 32
BOOK = np.random.default_rng(18).integers(0, 256, (CODES, 3)).astype(np.float32)


def const(name, value):
    return n.from_array(np.asarray(value), name)


def encoder(*, layout="NCHW", element=T.FLOAT, batch="n", sides=("h", "w"), out=T.INT64, form="nhw",
            levels=1, coarse=False, scale=1.0, mean=0.0, over_batch=False, floats_more=0, between=None):
    """Pixels to codes. `form` is the shape of the codes; further levels are of what is left over, or,
    where `coarse`, of twice as many pixels. `over_batch` takes the mean of all images off each of them;
    `floats_more` is how many zeros it holds beside; `between` makes further nodes from "z" to "own"."""
    height, width = sides
    shape = [batch, 3, height, width] if layout == "NCHW" else [batch, height, width, 3]
    kernel = np.zeros((3, 3, FACTOR, FACTOR), np.float32)
    for channel in range(3):
        kernel[channel, channel] = 1 / FACTOR**2
    init = [const("kernel", kernel), const("scale", np.float32(scale)), const("mean", np.float32(mean))]
    nodes, x = [], "pixels"
    if element != T.FLOAT:
        nodes.append(h.make_node("Cast", [x], ["floats"], to=T.FLOAT))
        x = "floats"
    if layout == "NHWC":
        nodes.append(h.make_node("Transpose", [x], ["nchw"], perm=[0, 3, 1, 2]))
        x = "nchw"
    nodes += [
        h.make_node("Mul", [x, "scale"], ["scaled"]),
        h.make_node("Add", ["scaled", "mean"], ["values"]),
        h.make_node("Conv", ["values", "kernel"], ["z"], strides=[FACTOR, FACTOR]),
        h.make_node("Transpose", ["z"], ["rest0"], perm=[0, 2, 3, 1]),
    ]
    if over_batch:
        nodes[-1] = h.make_node("Transpose", ["own"], ["rest0"], perm=[0, 2, 3, 1])
        nodes += [
            h.make_node("ReduceMean", ["z"], ["all"], axes=[0], keepdims=1),
            h.make_node("Sub", ["z", "all"], ["own"]),
        ]
        nodes.append(nodes.pop(-3))
    if between:
        nodes[-1:] = [*between(init), h.make_node("Transpose", ["own"], ["rest0"], perm=[0, 2, 3, 1])]
    if floats_more:
        # Of a size that is only known when the graph runs.
        init += [const("count", np.array([floats_more], np.int64)), const("none", np.int64(0))]
        nodes[-1] = h.make_node("Transpose", ["own"], ["rest0"], perm=[0, 2, 3, 1])
        nodes += [
            h.make_node("Shape", ["z"], ["sides"]),
            h.make_node("ReduceMin", ["sides"], ["least"], keepdims=0),
            h.make_node("Mul", ["least", "none"], ["zero"]),
            h.make_node("Add", ["count", "zero"], ["counted"]),
            h.make_node("ConstantOfShape", ["counted"], ["many"]),
            h.make_node("ReduceSum", ["many"], ["nothing"], keepdims=0),
            h.make_node("Add", ["z", "nothing"], ["own"]),
        ]
        nodes.append(nodes.pop(-8))
    outputs = []
    for level in range(levels):
        name = "tokens" if levels == 1 else f"tokens{level}"
        z = f"rest{level}"
        if coarse and level:
            nodes += [
                h.make_node("AveragePool", ["z"], [f"pooled{level}"], kernel_shape=[2, 2], strides=[2, 2]),
                h.make_node("Transpose", [f"pooled{level}"], [f"coarse{level}"], perm=[0, 2, 3, 1]),
            ]
            z = f"coarse{level}"
        book = BOOK if level == 0 or coarse else (BOOK - 128) / 4**level
        init += [const(f"book{level}", book.astype(np.float32)),
                 const(f"spread{level}", book[None, None, None].astype(np.float32))]
        nodes += [
            h.make_node("Unsqueeze", [z, "axis"], [f"one{level}"]),
            h.make_node("Sub", [f"one{level}", f"spread{level}"], [f"apart{level}"]),
            h.make_node("ReduceSumSquare", [f"apart{level}"], [f"far{level}"], axes=[4], keepdims=0),
            h.make_node("ArgMin", [f"far{level}"], [f"near{level}"], axis=3, keepdims=0),
            h.make_node("Gather", [f"book{level}", f"near{level}"], [f"code{level}"]),
            h.make_node("Sub", [z, f"code{level}"], [f"rest{level + 1}"]),
        ]
        last = f"near{level}"
        if form != "nhw":
            init.append(const(f"form{level}", np.array([-1] if form == "flat" else [0, -1], np.int64)))
            nodes.append(h.make_node("Reshape", [last, f"form{level}"], [f"formed{level}"]))
            last = f"formed{level}"
        nodes.append(h.make_node("Cast", [last], [name], to=out))
        # As exporters name sides that vary, or leave them out.
        dims = {"nhw": ["n", "gh", "gw"], "nl": ["n", "l"], "flat": ["all"]}[form]
        outputs.append(h.make_tensor_value_info(name, out, dims))
    init.append(const("axis", np.array([3], np.int64)))
    inputs = [h.make_tensor_value_info("pixels", element, shape)]
    return model(nodes, inputs, outputs, init)


def decoder(*, tokens=T.INT64, form="nhw", levels=1, batch="n", sides=(FACTOR, FACTOR)):
    """Codes to pixels of 0 to 1: the colours of the book, as rectangles."""
    init = [const("one", np.float32(1 / 255))]
    nodes, inputs, parts = [], [], []
    for level in range(levels):
        name = "tokens" if levels == 1 else f"tokens{level}"
        dims = {"nhw": [batch, "gh", "gw"], "nl": [batch, "l"], "flat": ["all"]}[form]
        inputs.append(h.make_tensor_value_info(name, tokens, dims))
        book = BOOK if level == 0 else (BOOK - 128) / 4**level
        init.append(const(f"book{level}", book.astype(np.float32)))
        nodes += [
            h.make_node("Cast", [name], [f"wide{level}"], to=T.INT64),
            h.make_node("Gather", [f"book{level}", f"wide{level}"], [f"vectors{level}"]),
        ]
        parts.append(f"vectors{level}")
    nodes += [
        h.make_node("Sum", parts, ["sum"]),
        h.make_node("Transpose", ["sum"], ["planes"], perm=[0, 3, 1, 2]),
        h.make_node("Mul", ["planes", "one"], ["unit"]),
        h.make_node("Resize", ["unit", "", "sizes"], ["out"], mode="nearest"),
    ]
    init.append(const("sizes", np.array([1, 1, *sides], np.float32)))
    outputs = [h.make_tensor_value_info("out", T.FLOAT, [batch, 3, "h", "w"])]
    return model(nodes, inputs, outputs, init)


def model(nodes, inputs, outputs, init):
    graph = h.make_graph(nodes, "tokenizer", inputs, outputs, init)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    onnx.checker.check_model(made)
    return made


def pictures():
    """Four pictures of 16 x 16, the first rows of which are of one colour each."""
    drawn = np.random.default_rng(4).integers(0, 256, (4, 16, 16, 3))
    return ((drawn + np.roll(drawn, 1, 1) + np.roll(drawn, 1, 2)) // 3).astype(np.uint8)


def of_the_first(init):
    """Less a share of what the first image of a batch has."""
    init += [const("zero", np.array([0], np.int64)), const("share", np.float32(0.5))]
    return [
        h.make_node("Gather", ["z", "zero"], ["first"], axis=0),
        h.make_node("Mul", ["first", "share"], ["part"]),
        h.make_node("Sub", ["z", "part"], ["own"]),
    ]


def of_those_before(init):
    """The sum of an image and of all before it."""
    init.append(const("images", np.int64(0)))
    return [h.make_node("CumSum", ["z", "images"], ["own"])]


def by_place(init):
    """Another number for each place in a batch."""
    init += [const("from", np.int64(0)), const("by", np.int64(1)), const("step", np.float32(20)),
             const("axes", np.array([1, 2, 3], np.int64))]
    return [
        h.make_node("Shape", ["z"], ["batch"], start=0, end=1),
        h.make_node("Squeeze", ["batch"], ["images"]),
        h.make_node("Range", ["from", "images", "by"], ["places"]),
        h.make_node("Cast", ["places"], ["floating"], to=T.FLOAT),
        h.make_node("Mul", ["floating", "step"], ["steps"]),
        h.make_node("Unsqueeze", ["steps", "axes"], ["each"]),
        h.make_node("Add", ["z", "each"], ["own"]),
    ]


def at_random(init):
    """What a model in training drops of its pixels, where the runtime leaves it in."""
    init += [const("ratio", np.float32(0.5)), const("training", np.bool_(True))]
    return [
        h.make_node("Dropout", ["pixels", "ratio", "training"], ["dropped"]),
        h.make_node("Mul", ["dropped", "scale"], ["larger"]),
        h.make_node("Add", ["larger", "mean"], ["moved"]),
        h.make_node("Conv", ["moved", "kernel"], ["own"], strides=[FACTOR, FACTOR]),
    ]


def in_training(init):
    """A norm over the batch."""
    init += [const(name, np.full(3, value, np.float32)) for name, value in
             (("scaled_by", 50), ("moved_by", 128), ("old_mean", 0), ("old_spread", 1))]
    return [h.make_node("BatchNormalization", ["z", "scaled_by", "moved_by", "old_mean", "old_spread"],
                        ["own", "new_mean", "new_spread"], training_mode=1)]


UNIT = {"mean": 0, "std": 255}
OUT = {"output": {"mean": [0, 0, 0], "std": [255, 255, 255]}}
CASES = {
    # name: (encoder, decoder, settings)
    "nhwc_u8": (dict(layout="NHWC", element=T.UINT8, sides=(16, 16)), dict(), {}),
    "fixed_batch": (dict(batch=4, sides=(16, 16), scale=255.0), None, {"input": UNIT}),
    "flat_i32": (dict(out=T.INT32, form="flat", scale=255.0), None, {"input": UNIT, "size": 16}),
    "row_u16": (dict(out=T.UINT16, form="nl", scale=255.0), None, {"input": UNIT, "size": 16}),
    "two_levels": (dict(levels=2, out=T.INT32), dict(levels=2, tokens=T.INT32),
                   {"input": {"mean": 0, "std": 1}, "size": 16, "tokens": ["tokens0", "tokens1"]}),
    "coarse": (dict(levels=2, coarse=True), None, {"input": {"mean": 0, "std": 1}, "size": 16}),
    "f16": (dict(element=T.FLOAT16, sides=(16, 16)), None, {"input": {"mean": 0, "std": 1}}),
    "dynamic": (dict(scale=127.5, mean=127.5), dict(),
                {"input": {"mean": 127.5, "std": 127.5, "layout": "NCHW"}, "size": 16}),
}

# A decoder alone, of which pictures are no multiples of their grids.
LONE = {"odd_decoder": (dict(sides=(3.75, 3.75)), {"codes": CODES, **OUT})}


# What is refused once it has run: (encoder, decoder).
REFUSED = {
    "over_batch": (dict(scale=127.5, mean=127.5, over_batch=True), None),
    "of_the_first": (dict(scale=127.5, mean=127.5, between=of_the_first), None),
    "of_the_first_of_3": (dict(scale=127.5, mean=127.5, batch=3, between=of_the_first), None),
    "of_those_before": (dict(scale=127.5, mean=127.5, between=of_those_before), None),
    "by_place": (dict(scale=127.5, mean=127.5, between=by_place), None),
    "at_random": (dict(scale=127.5, mean=127.5, batch=1, between=at_random), None),
    "in_training": (dict(scale=127.5, mean=127.5, between=in_training), None),
    "other_sides": (dict(scale=127.5, mean=127.5), dict(sides=(FACTOR, FACTOR // 2))),
    "endless": (dict(scale=127.5, mean=127.5, floats_more=1 << 36), None),
}


def scaled(images, kind, settings):
    if kind.get("element") == T.UINT8:
        return images
    given = settings["input"]
    floats = (images.astype(np.float32) - np.float32(given["mean"])) / np.float32(given["std"])
    if kind.get("element") == T.FLOAT16:
        floats = floats.astype(np.float16)
    return floats if kind.get("layout") == "NHWC" else np.ascontiguousarray(floats.transpose(0, 3, 1, 2))


def main(out, refused):
    for name, (kind, into) in REFUSED.items():
        (refused / name).mkdir(parents=True, exist_ok=True)
        onnx.save(encoder(**kind), refused / name / "encoder.onnx")
        if into is not None:
            onnx.save(decoder(**into), refused / name / "decoder.onnx")
        settings = {"codes": CODES, "resize": "none", **CASES["dynamic"][2], **OUT}
        del settings["size"]
        (refused / name / "tokenizer.json").write_text(json.dumps(settings) + "\n")
    for name, (into, settings) in LONE.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        onnx.save(decoder(**into), out / name / "decoder.onnx")
        (out / name / "tokenizer.json").write_text(json.dumps(settings) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    images = pictures()
    expected = {"images": images.ravel().tolist(), "cases": {}}
    for name, (kind, into, settings) in CASES.items():
        folder = out / name
        folder.mkdir(exist_ok=True)
        onnx.save(encoder(**kind), folder / "encoder.onnx")
        if into is not None:
            onnx.save(decoder(**into), folder / "decoder.onnx")
        settings = {"codes": CODES, "resize": "none" if name == "dynamic" else "bicubic", **settings}
        if name == "dynamic":
            del settings["size"]
        if into is not None:
            settings |= OUT
        (folder / "tokenizer.json").write_text(json.dumps(settings) + "\n")
        run = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
        found = run.run(None, {"pixels": scaled(images, kind, settings)})
        case = {"tokens": [level.reshape(4, -1).tolist() for level in found]}
        if into is not None:
            run = onnxruntime.InferenceSession(folder / "decoder.onnx", providers=["CPUExecutionProvider"])
            names = [one.name for one in run.get_inputs()]
            (made,) = run.run(None, dict(zip(names, found, strict=True)))
            pixels = np.clip(np.rint(made * 255), 0, 255).astype(int)
            case["pixels"] = pixels.transpose(0, 2, 3, 1).reshape(4, -1).tolist()
        expected["cases"][name] = case
    (out / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
