"""A tensor's extent in PAYLOAD (§9): padding, digest, the values of every encoding, and what only decoding shows."""

import re
import struct

import ternary
from blake3 import blake3
from layout import check_zero
from refusal import compare_digest, refuse

MAX_SCALE = 10000


def check_extent(r, extent):
    """What a reader checks before it uses a tensor: R071 to R075 and §10. Of opaque records only the digest."""
    if not r.opaque and r.scale_count:
        check_zero("R071", f"{r.where}, padding before its scales", extent[r.data_bytes:r.scales_at])
    compare_digest("R072", r.where, r.stored_digest, blake3(extent))
    if r.opaque:
        return
    if r.scale_count:
        check_scales(r, bytes(extent[r.scales_at:]))
    data = extent[:r.data_bytes]
    if r.encoding in ("f32", "f16", "bf16"):
        check_finite(r, bytes(data))
    elif r.encoding == "i8":
        at = bytes(data).find(b"\x80")
        if at >= 0:
            refuse("R075", r.where, "values from -127 to 127", f"-128 at element {at}")


def check_scales(r, scales):
    for row, (scale,) in enumerate(struct.iter_unpack("<f", scales)):
        if not 0 < scale <= MAX_SCALE:
            refuse("R073", r.where, f"a finite scale above 0 and at most {MAX_SCALE}", f"{scale!r} for row {row}")


def check_finite(r, data):
    """An exponent of all ones is in the top byte, and for 8 bits of exponent in the top bit of the byte below."""
    size = 4 if r.encoding == "f32" else 2
    high = data[size - 1::size]
    for match in re.finditer(rb"[\x7c-\x7f\xfc-\xff]" if r.encoding == "f16" else rb"[\x7f\xff]", high):
        at = match.start() * size
        if r.encoding == "f16" or data[at + size - 2] & 0x80:
            refuse("R074", r.where, f"finite {r.encoding} values", f"{data[at:at + size][::-1].hex()} at element {match.start()}")


def check_encoding(r, extent):
    """§10, for tensors whose file has no unknown inspect_only bits."""
    if r.ternary:
        ternary.validate(r, bytes(extent[:r.data_bytes]))


def decode(r, extent):
    """The decoded data of a checked tensor, with R076 and R077 checked: trits and i8 as one byte each, row-major, others as stored."""
    data = bytes(extent[:r.data_bytes])
    if not (r.ternary or r.encoding == "i8"):
        return data  # content_digest is stored_digest (R056), which was compared
    content = ternary.decode(r, data) if r.ternary else data
    compare_digest("R076", r.where, r.content_digest, blake3(content + bytes(extent[r.scales_at:])))
    if not r.ternary:
        return content
    non_zero = len(content) - content.count(0)
    if non_zero != r.non_zero:
        refuse("R076", r.where, f"{r.non_zero} non-zero trits", non_zero, "integrity")
    if r.m and r.encoding in ("t2", "t5"):
        group = ternary.first_dense_group(content, r.n, r.m)
        if group >= 0:
            row, block = divmod(group, r.cols // r.m)
            refuse("R077", r.where, f"at most {r.n} non-zeros in {r.m} columns", f"more in row {row} from column {block * r.m}")
    return content


def scales(r, extent):
    return bytes(extent[r.scales_at:]) if r.scale_count else b""
