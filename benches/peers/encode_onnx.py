"""The f16 VQGAN encoder and its quantizer in onnxruntime, on the weights `benches/encode.rs` wrote.

Usage: encode_onnx.py FOLDER THREADS; FOLDER holds model.safetensors and images.rgb (256 x 256).
Builds the graph through the onnx package, prints `ready`, then answers each line of stdin:
`tokens` with the codes of all images, a number n with the CPU and wall seconds of n images.
"""

import os
import resource
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

SIDE = 256
LEVELS = 5
BLOCKS = 2
GROUPS = 32
EPSILON = 1e-6


class Graph:
    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = {}
        self.count = 0

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def constant(self, name, array):
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def node(self, kind, inputs, **attributes):
        out = self.name()
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def conv(self, x, name, stride=1, pads=None):
        size = self.weights[f"{name}.weight"].shape[2]
        pads = pads if pads is not None else [size // 2] * 4
        return self.node(
            "Conv",
            [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=pads,
        )

    def norm(self, x, name):
        # InstanceNormalization over [1, 32, rest] and an affine: as PyTorch's exporter writes it.
        channels = self.weights[f"{name}.weight"].shape[0]
        grouped = self.node("Reshape", [x, self.constant("groups", np.array([0, GROUPS, -1]))])
        ones = self.constant("ones", np.ones(GROUPS, np.float32))
        zeros = self.constant("zeros", np.zeros(GROUPS, np.float32))
        normed = self.node("InstanceNormalization", [grouped, ones, zeros], epsilon=EPSILON)
        normed = self.node("Reshape", [normed, self.node("Shape", [x])])
        column = (channels, 1, 1)
        scale = self.constant(f"{name}.scale", self.weights[f"{name}.weight"].reshape(column))
        shift = self.constant(f"{name}.shift", self.weights[f"{name}.bias"].reshape(column))
        return self.node("Add", [self.node("Mul", [normed, scale]), shift])

    def silu(self, x):
        return self.node("Mul", [x, self.node("Sigmoid", [x])])

    def residual(self, x, name):
        h = self.conv(self.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = self.conv(self.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2")
        if f"{name}.nin_shortcut.weight" in self.weights:
            x = self.conv(x, f"{name}.nin_shortcut")
        return self.node("Add", [x, h])

    def attention(self, x, name):
        h = self.norm(x, f"{name}.norm")
        flat = self.constant("flat", np.array([0, 0, -1]))
        q, k, v = (self.node("Reshape", [self.conv(h, f"{name}.{p}"), flat]) for p in "qkv")
        channels = self.weights[f"{name}.q.weight"].shape[0]
        scale = self.constant(f"scale{channels}", np.array(channels**-0.5, np.float32))
        scores = self.node("MatMul", [self.node("Transpose", [q], perm=[0, 2, 1]), k])
        attended = self.node("Softmax", [self.node("Mul", [scores, scale])], axis=2)
        h = self.node("MatMul", [v, self.node("Transpose", [attended], perm=[0, 2, 1])])
        h = self.node("Reshape", [h, self.node("Shape", [x])])
        return self.node("Add", [x, self.conv(h, f"{name}.proj_out")])

    def encoder(self, x):
        h = self.conv(x, "encoder.conv_in")
        for level in range(LEVELS):
            for block in range(BLOCKS):
                h = self.residual(h, f"encoder.down.{level}.block.{block}")
                if f"encoder.down.{level}.attn.{block}.q.weight" in self.weights:
                    h = self.attention(h, f"encoder.down.{level}.attn.{block}")
            if level + 1 < LEVELS:
                name = f"encoder.down.{level}.downsample.conv"
                h = self.conv(h, name, stride=2, pads=[0, 0, 1, 1])
        h = self.residual(h, "encoder.mid.block_1")
        h = self.attention(h, "encoder.mid.attn_1")
        h = self.residual(h, "encoder.mid.block_2")
        h = self.conv(self.silu(self.norm(h, "encoder.norm_out")), "encoder.conv_out")
        return self.conv(h, "quant_conv")

    def quantize(self, z):
        codes = self.weights["quantize.embedding.weight"]
        rows = self.node("Transpose", [z], perm=[0, 2, 3, 1])
        rows = self.node("Reshape", [rows, self.constant("rows", np.array([-1, codes.shape[1]]))])
        product = self.node("MatMul", [rows, self.constant("codes_t", -2 * codes.T)])
        squares = self.constant("squares", (codes.astype(np.float64) ** 2).sum(1).astype(np.float32))
        # |z|^2 is the same for every code: it moves no minimum.
        return self.node("ArgMin", [self.node("Add", [product, squares])], axis=1, keepdims=0)


def session(folder, threads):
    graph = Graph(load_file(os.path.join(folder, "model.safetensors")))
    tokens = graph.quantize(graph.encoder("x"))
    shape = [1, 3, SIDE, SIDE]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "encoder",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(tokens, TensorProto.INT64, [None])],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads burn CPU-seconds while they wait.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    folder, threads = sys.argv[1], int(sys.argv[2])
    images = np.fromfile(os.path.join(folder, "images.rgb"), np.uint8).reshape(-1, SIDE, SIDE, 3)
    encoder = session(folder, threads)

    def encode(i):
        x = (images[i % len(images)].astype(np.float64) / 127.5 - 1).astype(np.float32)
        return encoder.run(None, {"x": x.transpose(2, 0, 1)[None]})[0]

    encode(0)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "tokens":
            print(*np.concatenate([encode(i) for i in range(len(images))]), flush=True)
            continue
        cpu, wall = cpu_seconds(), time.perf_counter()
        for i in range(int(line)):
            encode(i)
        print(cpu_seconds() - cpu, time.perf_counter() - wall, flush=True)


main()
