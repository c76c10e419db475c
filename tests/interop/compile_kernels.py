"""Compiles the CUDA kernels with NVRTC, which needs no card, and holds the machine code to a budget.

    pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
    python tests/interop/compile_kernels.py [ARCHITECTURE] [path to libnvrtc.so.13]

Prints, for each element type, the size of the machine code, and each kernel's instructions, accesses to
memory and calls, where there is nvdisasm; exits 1 where a kernel doesn't compile, keeps registers in
memory, has no budget, or needs more than it. The architecture is sm_90 (H100, H200) where none is
given; budgets are its.
"""

import collections
import ctypes
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing

SOURCES = pathlib.Path(__file__).parents[2] / "src"
KERNELS = [SOURCES / "engine/cuda/kernels.cu", SOURCES / "engine/cuda/families.cu"]
TRAINING = [SOURCES / "model/cuda/training.cu"]


class Budget(typing.NamedTuple):
    """At most so many instructions and calls, and the only accesses to the device's memory."""

    instructions: int
    calls: int
    accesses: str


# What NVRTC 13.0 makes for sm_90, and a tenth more instructions; calls are divisions and, in float32,
# exponentials. Where a kernel that moves maps has accesses of less than 128 bits, a comment says why.
# Float32 and bfloat16:
ENGINE_BUDGETS = {
    # Pixels of three bytes begin at no multiple of 4.
    "pixels_to_map": (Budget(264, 0, "LDG.E LDG.E.U8 STG.E.128"), Budget(192, 0, "LDG.E LDG.E.U8 STG.E.128")),
    # Runs when weights are loaded, never for a batch.
    "narrow_all": (Budget(40, 0, "LDG.E STG.E"), Budget(48, 0, "LDG.E STG.E.U16")),
    # Here and in `spread_map`, `join_maps` and `codes_to_map` rows are of any number of channels, so that
    # a pack begins anywhere in them; what is written is padded.
    "floats_to_map": (Budget(216, 1, "LDG.E STG.E.128"), Budget(280, 1, "LDG.E STG.E.128")),
    # A thread a float: a warp writes 128 bytes side by side, of few channels.
    "map_to_floats": (Budget(192, 1, "LDG.E STG.E"), Budget(192, 1, "LDG.E.U16 STG.E")),
    "double_map": (Budget(248, 2, "LDG.E.128 STG.E.128"), Budget(248, 2, "LDG.E.128 STG.E.128")),
    "activate": (Budget(392, 8, "LDG.E.128 STG.E.128"), Budget(168, 0, "LDG.E.128 STG.E.128")),
    "halve_map": (Budget(568, 4, "LDG.E.128 STG.E.128"), Budget(808, 4, "LDG.E.128 STG.E.128")),
    "spread_map": (Budget(344, 3, "LDG.E STG.E.128"), Budget(352, 3, "LDG.E.U16 STG.E.128")),
    # Stores are of sums, two a channel of a chunk; what is large is the map that it loads.
    "channel_sums": (Budget(672, 0, "LDG.E.128 STG.E"), Budget(760, 0, "LDG.E.128 STG.E")),
    # Threads stride over sums of chunks, 1/chunk of the map; doubles divide by calls.
    "group_affine": (Budget(992, 11, "LDG.E STG.E"), Budget(992, 11, "LDG.E LDG.E.U16 STG.E")),
    "apply_affine": (Budget(1528, 40, "LDG.E.128 STG.E.128"), Budget(728, 0, "LDG.E.128 STG.E.128")),
    # Inputs are of any number where a model's first layer is; float32 and small products only, bfloat16's
    # convolutions are cuDNN's.
    "convolve": (Budget(1080, 0, "LDG.E STG.E"), Budget(1400, 0, "LDG.E LDG.E.U16 STG.E.U16")),
    "convolve_to_floats": (Budget(688, 0, "LDG.E STG.E"), Budget(696, 0, "LDG.E LDG.E.U16 STG.E")),
    # The kernels over rows: a warp's accesses lie side by side, 128 bytes of float32 together.
    "softmax_rows": (Budget(776, 5, "LDG.E STG.E"), Budget(816, 5, "LDG.E STG.E.U16")),
    "normalise_rows": (Budget(560, 6, "LDG.E STG.E"), Budget(560, 6, "LDG.E STG.E")),
    "nearest": (Budget(1488, 1, "LDG.E STG.E"), Budget(1488, 1, "LDG.E STG.E")),
    "largest_logit": (Budget(552, 0, "LDG.E STG.E"), Budget(552, 0, "LDG.E STG.E")),
    "pad_map": (Budget(416, 4, "LDG.E.128 STG.E.128"), Budget(424, 4, "LDG.E.128 STG.E.128")),
    "join_maps": (Budget(312, 1, "LDG.E STG.E.128"), Budget(312, 1, "LDG.E.U16 STG.E.128")),
    "codes_to_map": (Budget(280, 2, "LDG.E STG.E.128"), Budget(344, 2, "LDG.E STG.E.128")),
    # Codes are gathered: a row of a codebook is short, and begins anywhere.
    "subtract_codes": (Budget(200, 1, "LDG.E STG.E"), Budget(200, 1, "LDG.E STG.E")),
    # One thread a channel strides over pixels; runs over a grid of codes, never over a picture.
    "code_statistics": (Budget(752, 3, "LDG.E STG.E"), Budget(824, 3, "LDG.E.U16 STG.E")),
    "modulation": (Budget(408, 0, "LDG.E STG.E"), Budget(408, 0, "LDG.E STG.E")),
    "apply_by_codes": (Budget(896, 12, "LDG.E.128 STG.E.128"), Budget(720, 4, "LDG.E.128 STG.E.128")),
}
# Tensors of training are [images][channels][height][width] of any size, whose planes begin at no multiple of
# 16 bytes: threads side by side take floats side by side, which a warp moves 128 bytes at a time.
TRAINING_BUDGETS = {
    "leaky_relu": Budget(48, 0, "LDG.E STG.E"),
    "leaky_relu_gradient": Budget(48, 0, "LDG.E STG.E"),
    "scale_all": Budget(40, 0, "LDG.E STG.E"),
    "add_to_channels": Budget(288, 2, "LDG.E STG.E"),
    "blend": Budget(48, 0, "LDG.E STG.E"),
    "blend_square": Budget(48, 0, "LDG.E STG.E"),
    "descend": Budget(224, 2, "LDG.E STG.E"),
    "square_parts": Budget(288, 1, "LDG.E STG.E.64"),
    "square_difference_parts": Budget(328, 1, "LDG.E STG.E.64"),
    "add_parts": Budget(216, 0, "LDG.E.64 STG.E.64"),
    "sums_of_channels": Budget(288, 0, "LDG.E STG.E"),
    "add_rows": Budget(256, 0, "LDG.E STG.E"),
    "max_pool_2": Budget(376, 3, "LDG.E STG.E"),
    "max_pool_2_gradient": Budget(400, 3, "LDG.E STG.E"),
    "group_norm": Budget(1656, 11, "LDG.E STG.E"),
    "group_norm_gradient": Budget(1840, 13, "LDG.E STG.E"),
    "conv_forward": Budget(1808, 0, "LDG.E LDG.E.U16 STG.E"),
    "conv_input_gradient": Budget(1640, 0, "LDG.E STG.E"),
    "conv_weight_gradient_parts": Budget(1400, 0, "LDG.E LDG.E.U16 STG.E"),
    "unit_rows": Budget(544, 6, "LDG.E STG.E"),
    "square_rows": Budget(176, 0, "LDG.E STG.E"),
    "nearest_codes": Budget(1120, 0, "LDG.E STG.E"),
}


def library():
    if len(sys.argv) > 2:
        return ctypes.CDLL(sys.argv[2])
    for folder in sys.path:
        for found in sorted(pathlib.Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")):
            if "builtins" not in found.name:
                # It asks for these by name, and not beside itself.
                for builtins in sorted(found.parent.glob("libnvrtc-builtins.so.*")):
                    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
                return ctypes.CDLL(str(found))
    return ctypes.CDLL("libnvrtc.so.13")


def compiled(nvrtc, source, options):
    program = ctypes.c_void_p()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None))
    flags = (ctypes.c_char_p * len(options))(*options)
    failed = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    size = ctypes.c_size_t()
    check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetProgramLog(program, log))
    if log.value:
        print(log.value.decode())
    if failed or log.value:  # warnings, too
        sys.exit(1)
    check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    cubin = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin.raw


def disassembler():
    for folder in sys.path:
        for found in sorted(pathlib.Path(folder).glob("nvidia/*/bin/nvdisasm")):
            return str(found)
    return shutil.which("nvdisasm")


def instructions(nvdisasm, cubin):
    """The instructions' names of every kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([nvdisasm, "-c", file.name], check=True, capture_output=True, text=True).stdout
    kernels = {}
    for part in re.split(r"\n(?=\s*\.section\s+\.text\.)", text)[1:]:
        name = re.search(r"\.text\.(\w+)", part).group(1)
        kernels[name] = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", part)
    return kernels


def over_budget(kernels, budgets):
    """What is wrong, a line each; budgets are None for another architecture than theirs."""
    wrong = []
    for name, found in sorted(kernels.items()):
        # LD and ST are accesses to memory of a kind that the compiler doesn't know.
        access = ("LDG", "STG", "LDL", "STL", "LD.", "ST.")
        memory = collections.Counter(i for i in found if i.startswith(access))
        calls = sum(i.startswith("CALL") for i in found)
        shown = ", ".join(f"{count} {i}" for i, count in sorted(memory.items()))
        print(f"  {name}: {len(found)} instructions, {calls} calls, {shown}")
        if any(i.startswith(("LDL", "STL")) for i in memory):
            wrong.append(f"{name} keeps registers in memory")
        if budgets is None:
            continue
        budget = budgets[name]
        allowed = budget.accesses.split()
        if len(found) > budget.instructions:
            wrong.append(f"{name} has more than {budget.instructions} instructions")
        if calls > budget.calls:
            wrong.append(f"{name} calls more than {budget.calls} times")
        if not set(memory) <= set(allowed):
            wrong.append(f"{name} accesses memory otherwise than by {allowed}")
    return wrong


def check(status):
    if status:
        sys.exit(f"NVRTC error {status}")


def main():
    architecture = sys.argv[1] if len(sys.argv) > 1 else "sm_90"
    nvrtc = library()
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    print(f"NVRTC {major.value}.{minor.value}, {architecture}")
    nvdisasm, wrong = disassembler(), []
    if nvdisasm is None:
        print("skipped: there is no nvdisasm, so that no budget is looked at")
    for name, files, options, budgets in [
        ("f32", KERNELS, [], {name: pair[0] for name, pair in ENGINE_BUDGETS.items()}),
        ("bf16", KERNELS, [b"-DVQTOK_BF16"], {name: pair[1] for name, pair in ENGINE_BUDGETS.items()}),
        ("training", TRAINING, [], TRAINING_BUDGETS),
    ]:
        source = b"".join(file.read_bytes() for file in files)
        kernels = [line for line in source.decode().splitlines() if line.startswith("KERNEL ")]
        names = [line.split("(")[0].split()[1] for line in kernels]
        unmatched = set(names) ^ set(budgets)
        if unmatched:
            sys.exit(f"{name}: a kernel without a budget, or a budget without a kernel: {sorted(unmatched)}")
        cubin = compiled(nvrtc, source, [f"--gpu-architecture={architecture}".encode(), *options])
        missing = [name for name in names if f".text.{name}".encode() not in cubin]
        if missing:
            sys.exit(f"{name}: no code for {missing}")
        print(f"{name}: {len(cubin)} bytes of machine code, all of {len(names)} kernels in it")
        if nvdisasm:
            wrong += over_budget(instructions(nvdisasm, cubin), budgets if architecture == "sm_90" else None)
    for reason in wrong:
        print(reason)
    sys.exit(bool(wrong))


main()
