#!/usr/bin/env python3
"""Compiles the CUDA sources beside it into images/, through NVRTC, on a machine that needs no GPU and no CUDA toolkit.

Usage: compile.py LIBNVRTC [--verbose] [--lineinfo] [UNIT...]

The first line of src/UNIT.cu names its targets, as in `// targets: sm_90a compute_80`. A target sm_X gives machine code (UNIT.sm_X.cubin), compute_X gives
PTX (UNIT.compute_X.ptx). Sources include nothing but the headers in src/. `cargo xtask kernels` calls this and records the digests of what came out.
"""
import ctypes
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent


def check(nvrtc, code, what):
    if code:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"{what}: {nvrtc.nvrtcGetErrorString(code).decode()}")


def fetch(nvrtc, program, name):
    """What nvrtcGet<name>Size and nvrtcGet<name> give."""
    size = ctypes.c_size_t()
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{name}Size")(program, ctypes.byref(size)), name)
    text = ctypes.create_string_buffer(size.value)
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{name}")(program, text), name)
    return text.raw


def compile_unit(nvrtc, unit, target, headers, options):
    names, texts = (ctypes.c_char_p * len(headers))(*headers), (ctypes.c_char_p * len(headers))(*headers.values())
    source = (HERE / "src" / f"{unit}.cu").read_bytes()
    program = ctypes.c_void_p()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, f"{unit}.cu".encode(), len(headers), texts, names)
    check(nvrtc, made, unit)
    options = [f"--gpu-architecture={target}", "--std=c++17", *options]
    flags = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    outcome = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    log = fetch(nvrtc, program, "ProgramLog").rstrip(b"\0").decode().strip()
    if log:
        print(f"{unit} {target}:\n{log}", file=sys.stderr)
    check(nvrtc, outcome, f"{unit} for {target}")
    machine_code = target.startswith("sm_")
    image = fetch(nvrtc, program, "CUBIN" if machine_code else "PTX")
    path = HERE / "images" / f"{unit}.{target}.{'cubin' if machine_code else 'ptx'}"
    path.write_bytes(image if machine_code else image.rstrip(b"\0"))
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    nvrtc = ctypes.CDLL(sys.argv[1])
    flags = [a for a in sys.argv[2:] if a.startswith("-")]
    options = ["--ptxas-options=-v"] * ("--verbose" in flags) + ["--generate-line-info"] * ("--lineinfo" in flags)
    sources = HERE / "src"
    headers = {path.name.encode(): path.read_bytes() for path in sorted(sources.glob("*.h"))}
    wanted = [a for a in sys.argv[2:] if not a.startswith("-")]
    for path in sorted(sources.glob("*.cu")):
        if wanted and path.stem not in wanted:
            continue
        first = path.read_text(encoding="utf-8").splitlines()[0]
        for target in first.removeprefix("// targets:").split():
            compile_unit(nvrtc, path.stem, target, headers, options)


main()
