"""Compiles the CUDA kernels with NVRTC, which needs no card, and holds the machine code to a budget.

    pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
    python tests/interop/compile_kernels.py [ARCHITECTURE] [path to libnvrtc.so.13]

Prints, for each element type, the size of the machine code, and each kernel's instructions, accesses to
memory and calls, where there is nvdisasm; exits 1 where a kernel doesn't compile, keeps registers in
memory, or does with more than its budget. The architecture is sm_90 (H100, H200) where none is given;
budgets are its.
"""

import collections
import ctypes
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCES = pathlib.Path(__file__).parents[2] / "src"
KERNELS = [SOURCES / "engine/cuda/kernels.cu", SOURCES / "engine/cuda/families.cu"]
TRAINING = [SOURCES / "model/cuda/training.cu"]


# Of bfloat16 on sm_90 by NVRTC 13.0: at most so many instructions, and the only accesses to the
# device's memory that maps may see. Before them apply_affine had 544 instructions for an eighth of the
# work, 30 loads of four bytes and 8 calls.
BUDGETS = {
    "apply_affine": (720, {"LDG.E.128", "STG.E.128"}),
    "channel_sums": (760, {"LDG.E.128", "STG.E"}),
    "pixels_to_map": (200, {"LDG.E.U8", "LDG.E", "STG.E.128"}),
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


def within_budgets(kernels, budgets):
    right = True
    for name, found in sorted(kernels.items()):
        memory = collections.Counter(i for i in found if i.startswith(("LDG", "STG", "LDL", "STL")))
        calls = sum(i.startswith("CALL") for i in found)
        shown = ", ".join(f"{count} {i}" for i, count in sorted(memory.items()))
        print(f"  {name}: {len(found)} instructions, {calls} calls, {shown}")
        most, allowed = budgets.get(name, (len(found), set(memory)))
        wrong = [
            reason
            for reason, is_so in [
                ("keeps registers in memory", any(i.startswith(("LDL", "STL")) for i in memory)),
                (f"has more than {most} instructions", len(found) > most),
                (f"accesses memory otherwise than by {sorted(allowed)}", not set(memory) <= allowed),
                ("calls", name in budgets and calls > 0),
            ]
            if is_so
        ]
        for reason in wrong:
            print(f"  {name} {reason}")
            right = False
    return right


def check(status):
    if status:
        sys.exit(f"NVRTC error {status}")


def main():
    architecture = sys.argv[1] if len(sys.argv) > 1 else "sm_90"
    nvrtc = library()
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    print(f"NVRTC {major.value}.{minor.value}, {architecture}")
    nvdisasm, right = disassembler(), True
    if nvdisasm is None:
        print("skipped: there is no nvdisasm, so that no budget is looked at")
    for name, files, options in [
        ("f32", KERNELS, []),
        ("bf16", KERNELS, [b"-DVQTOK_BF16"]),
        ("training", TRAINING, []),
    ]:
        source = b"".join(file.read_bytes() for file in files)
        kernels = [line for line in source.decode().splitlines() if line.startswith("KERNEL ")]
        names = [line.split("(")[0].split()[1] for line in kernels]
        cubin = compiled(nvrtc, source, [f"--gpu-architecture={architecture}".encode(), *options])
        missing = [name for name in names if f".text.{name}".encode() not in cubin]
        if missing:
            sys.exit(f"{name}: no code for {missing}")
        print(f"{name}: {len(cubin)} bytes of machine code, all of {len(names)} kernels in it")
        if nvdisasm:
            budgets = BUDGETS if name == "bf16" and architecture == "sm_90" else {}
            right &= within_budgets(instructions(nvdisasm, cubin), budgets)
    sys.exit(not right)


main()
