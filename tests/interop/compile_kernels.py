"""Compiles the CUDA kernels with NVRTC, which needs no card: by hand, on a machine with its wheel.

    pip install nvidia-cuda-nvrtc
    python tests/interop/compile_kernels.py [ARCHITECTURE] [path to libnvrtc.so.13]

Prints, for each element type, the size of the machine code and its kernels; exits 1 where one
doesn't compile. The architecture is sm_90 (H100, H200) where none is given.
"""

import ctypes
import pathlib
import sys

KERNELS = pathlib.Path(__file__).parents[2] / "src/engine/cuda/kernels.cu"


def library():
    if len(sys.argv) > 2:
        return ctypes.CDLL(sys.argv[2])
    for folder in sys.path:
        for found in sorted(pathlib.Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")):
            if "builtins" not in found.name:
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
    if failed:
        sys.exit(1)
    check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    cubin = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin.raw


def check(status):
    if status:
        sys.exit(f"NVRTC error {status}")


def main():
    architecture = sys.argv[1] if len(sys.argv) > 1 else "sm_90"
    nvrtc = library()
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    source = KERNELS.read_bytes()
    names = [line.split("(")[0].split()[1] for line in source.decode().splitlines() if line.startswith("KERNEL ")]
    print(f"NVRTC {major.value}.{minor.value}, {architecture}, {len(names)} kernels")
    for name, options in [("f32", []), ("bf16", [b"-DVQTOK_BF16"])]:
        cubin = compiled(nvrtc, source, [f"--gpu-architecture={architecture}".encode(), b"-Werror", b"all-warnings", *options])
        missing = [name for name in names if f".text.{name}".encode() not in cubin]
        if missing:
            sys.exit(f"{name}: no code for {missing}")
        print(f"{name}: {len(cubin)} bytes of machine code, every kernel in it")


main()
