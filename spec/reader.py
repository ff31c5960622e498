#!/usr/bin/env python3
"""A second reader of sbnc files, written from SPEC.md alone: verify, inspect, dump and unpack, with the standard library only.

    reader.py verify FILE [--deep] [--json]      inspect FILE [--json]
    reader.py dump FILE TENSOR -o OUT.npy [--scales OUT2.npy]
    reader.py unpack FILE.sbncz -o OUT.sbnc

Exit status: 0 good, 2 usage, 3 a broken rule, 4 a digest that does not match, 5 unsupported, 6 input or output. Modules, each on those above it:

    refusal  bytewise  blake3        the error; arrays of bytes; the digest
    layout  records                  §3 and §4; §5 and §6
    canonical_json  manifest         §7 and §8
    zstd_frame  packed               frames; §11
    fragments  ternary  payload      §10.4 and §10.5; §10; §9
    checks  reader                   the order of the rules; the command line
"""

import argparse
import contextlib
import json
import mmap
import os
import stat
import struct
import sys
import tempfile

from checks import decode_tensor, open_file, open_unpacked, unpack, verify, verify_contents
from layout import PACKED_MAGIC
from refusal import Refusal

EXIT = {"invalid": 3, "integrity": 4, "unsupported": 5}
EXIT_USAGE, EXIT_UNSUPPORTED, EXIT_IO = 2, 5, 6


class Trouble(Exception):
    """What ends a command without a broken rule."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def map_file(file):
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""


def read_file(path):
    with open(path, "rb") as file:
        return map_file(file)


def is_packed(path, data):
    """By extension, so that a file under the wrong name is told so; by magic under any other."""
    if path.endswith((".sbnc", ".sbncz")):
        return path.endswith(".sbncz")
    return data[:8] == PACKED_MAGIC


def unpack_to_map(data):
    """The packed prefix, and the unpacked file mapped from a temporary one; None for it where a zstd module is missing."""
    with tempfile.TemporaryFile() as file:
        prefix, undecoded = unpack(data, file.write)
        file.flush()
        return prefix, None if undecoded else map_file(file)


def verify_any(data, is_packed, deep=False, note=lambda text: None):
    """Verifies a file of either form. None for a packed file whose content could not be looked into."""
    if not is_packed:
        return verify(data, deep, note)
    prefix, unpacked = unpack_to_map(data)
    if unpacked is None:
        note("the unpacked file, for want of a zstd module")
        return None
    return verify_contents(open_unpacked(unpacked, prefix, deep).read_manifest(), deep, note)


def open_any(data, is_packed, decoding=False):
    if not is_packed:
        return open_file(data, decoding)
    prefix, unpacked = unpack_to_map(data)
    if unpacked is None:
        raise Trouble(EXIT_UNSUPPORTED, "compressed chunks need the module compression.zstd or zstandard")
    return open_unpacked(unpacked, prefix, decoding).read_manifest()


@contextlib.contextmanager
def replacing(path):
    """A file that takes the place of `path` when all went well."""
    scratch = f"{path}.sbnc-tmp-{os.getpid()}"
    try:
        with open(scratch, "xb") as file:
            yield file
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise


def write_npy(path, dtype, shape, data):
    header = repr({"descr": dtype, "fortran_order": False, "shape": tuple(shape)})
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with replacing(path) as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii"))
        file.write(data)


def as_npy(r, data):
    """dtype and bytes. bf16, which .npy does not know, becomes the f32 of the same value."""
    if r.encoding == "bf16":
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        return "<f4", bytes(wide)
    return {"f32": "<f4", "f16": "<f2"}.get(r.encoding, "|i1"), data


def describe(f):
    """What `inspect` shows, as plain data."""
    return {
        "root": f.prefix.root.hex(),
        "version": [f.prefix.major, f.prefix.minor],
        "file_bytes": f.prefix.file_bytes,
        "compatible": f.prefix.compatible,
        "inspect_only": f.prefix.inspect_only,
        "sections": [{"name": s.name, "kind": s.kind, "offset": s.offset, "bytes": s.bytes, "digest": s.digest.hex()} for s in f.sections.values()],
        "manifest": f.manifest,
        "tensors": [describe_tensor(r) for r in f.records],
    }


def describe_tensor(r):
    return {
        "name": r.name,
        "role": r.role or f"unknown ({r.role_code})",
        "encoding": r.encoding or f"unknown ({r.encoding_code})",
        "order": r.order or f"unknown ({r.order_code})",
        "shape": list(r.shape),
        "nm": f"{r.n}:{r.m}" if r.m and not r.opaque else None,
        "offset": r.offset,
        "stored_bytes": r.stored_bytes,
        "data_bytes": r.data_bytes,
        "scale_count": r.scale_count,
        "bits_per_weight": 8 * r.stored_bytes / r.elements,
        "non_zero": r.non_zero,
        "zero_fraction": 1 - r.non_zero / r.elements if r.ternary and not r.opaque else None,
        "digest": r.content_digest.hex(),
        "content_digest": r.content_digest.hex(),
        "stored_digest": r.stored_digest.hex(),
        "opaque": r.opaque,
    }


def command_verify(options):
    unchecked = []
    data = read_file(options.file)
    f = verify_any(data, is_packed(options.file, data), options.deep, unchecked.append)
    for what in unchecked:
        print(f"not checked: {what}", file=sys.stderr)
    if options.json:
        print(json.dumps({"ok": True, "root": f and f.prefix.root.hex(), "tensors": f and len(f.records), "not_checked": unchecked}))
    else:
        print(f"good: {len(f.records)} tensors, root {f.prefix.root.hex()}" if f else "good as far as it was checked")


def command_inspect(options):
    data = read_file(options.file)
    shown = describe(open_any(data, is_packed(options.file, data)))
    if options.json:
        print(json.dumps(shown, indent=1))
        return
    print(f"root {shown['root']}  {shown['file_bytes']} bytes")
    for s in shown["sections"]:
        print(f"section {s['name']:12} {s['offset']:14} {s['bytes']:14}")
    rows = [("name", "role", "encoding", "order", "nm", "shape", "bits", "zeros", "digest")]
    for t in shown["tensors"]:
        zeros = "-" if t["zero_fraction"] is None else f"{t['zero_fraction']:.3f}"
        shape = "x".join(map(str, t["shape"]))
        rows.append((t["name"], t["role"], t["encoding"], t["order"], t["nm"] or "-", shape, f"{t['bits_per_weight']:.3f}", zeros, t["digest"][:16]))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def command_dump(options):
    data = read_file(options.file)
    decoded = decode_tensor(open_any(data, is_packed(options.file, data), decoding=True), options.tensor)
    if decoded is None:
        raise Trouble(EXIT_USAGE, f"no tensor named {options.tensor!r}")
    r, content, scales = decoded
    if options.scales and not scales:
        raise Trouble(EXIT_USAGE, f"{r.where} has no scales")
    write_npy(options.output, as_npy(r, content)[0], r.shape, as_npy(r, content)[1])
    if options.scales:
        write_npy(options.scales, "<f4", (r.scale_count,), scales)


def command_unpack(options):
    data = read_file(options.file)
    with replacing(options.output) as file:
        prefix, undecoded = unpack(data, file.write)
        if undecoded:
            raise Trouble(EXIT_UNSUPPORTED, f"{undecoded[0].where} needs the module compression.zstd or zstandard")
        file.flush()
        with open(file.name, "rb") as again:
            open_unpacked(map_file(again), prefix)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="reader.py", description="A second reader of sbnc files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("verify", command_verify), ("inspect", command_inspect), ("dump", command_dump), ("unpack", command_unpack)):
        command = commands.add_parser(name)
        command.set_defaults(run=run, json=False)
        command.add_argument("file")
        if name in ("verify", "inspect"):
            command.add_argument("--json", action="store_true")
        if name == "verify":
            command.add_argument("--deep", action="store_true", help="decode every tensor too")
        if name == "dump":
            command.add_argument("tensor")
            command.add_argument("--scales")
        if name in ("dump", "unpack"):
            command.add_argument("-o", "--output", required=True)
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        options.run(options)
        return 0
    except Refusal as refusal:
        if options.json:
            print(json.dumps({"ok": False, "rule": f"SBNC-{refusal.rule}", "kind": refusal.kind, "message": str(refusal)}))
        print(refusal, file=sys.stderr)
        return EXIT[refusal.kind]
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return trouble.status
    except (OSError, MemoryError) as error:
        print(f"{options.file}: {error or 'out of memory'}", file=sys.stderr)
        return EXIT_IO


if __name__ == "__main__":
    sys.exit(main())
