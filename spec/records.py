"""Tensor records and names (§5, §6): TENSORS and NAMES become a list of checked records.

A file with an unknown inspect_only bit may hold records that only a later reader understands; they are kept as opaque bytes.
"""

import re
import struct

from layout import TENSOR_ALIGN, up
from refusal import quote, refuse

RECORD_BYTES = 160
MAX_TENSORS = 65536
MAX_NAME_BYTES = 256
MAX_RANK = 4
MAX_DIM = 2**31
MAX_ELEMENTS = 2**40
TILE_ROWS, TILE_COLS, TILE_BYTES = 16, 128, 512

ROLES = {1: "linear", 2: "embedding", 3: "norm", 4: "head", 5: "other"}
ENCODINGS = {1: "f32", 2: "f16", 3: "bf16", 4: "i8", 16: "t2", 17: "t5", 18: "nm-vi", 19: "nm-6b"}
ORDERS = {0: "rows", 1: "fragments", 2: "windows"}
FLOATS, TERNARY = ("f32", "f16", "bf16"), ("t2", "t5", "nm-vi", "nm-6b")
# Rules that a record may break where an unknown inspect_only bit is set.
LENIENT = {"R041", "R042", "R043", "R045", "R046", "R047", "R048", "R049", "R050", "R051", "R052", "R056"}


class Record:
    FIELDS = struct.Struct("<IIHHHHBBBBI4Q5Q32s32s")

    def __init__(self, index, data):
        (self.name_offset, self.name_bytes, self.role_code, self.encoding_code, self.order_code, self.order_version, self.n, self.m,
         self.group_axis, self.rank, self.reserved, *shape, self.offset, self.stored_bytes, self.data_bytes, self.scale_count,
         self.non_zero, self.stored_digest, self.content_digest) = self.FIELDS.unpack(data)
        self.dims = tuple(shape)
        self.role, self.encoding, self.order = ROLES.get(self.role_code), ENCODINGS.get(self.encoding_code), ORDERS.get(self.order_code)
        self.opaque = False
        self.name = None
        self.where = f"record {index}"

    # The following mean something once the rules that they rest on hold; see `rules`.

    @property
    def shape(self):
        return self.dims[:self.rank]

    @property
    def elements(self):
        product = 1
        for dimension in self.shape:
            product *= dimension
        return product

    @property
    def rows(self):
        return self.dims[0]

    @property
    def cols(self):
        return self.dims[1]

    @property
    def end(self):
        return self.offset + self.stored_bytes

    @property
    def ternary(self):
        return self.encoding in TERNARY

    @property
    def scales_at(self):
        """Where the scales begin, from the start of the extent."""
        return up(self.data_bytes, TENSOR_ALIGN)

    @property
    def expanded_cols(self):
        """C of the table of encodings: for windows the width of §10.5."""
        return self.cols // self.m * (self.m // 2 - 1) * 4 if self.order == "windows" else self.cols


def orders_of(encoding):
    return ("fragments", "windows") if encoding == "nm-vi" else ("rows",)


def shape_is_good(r):
    return 1 <= r.rank <= MAX_RANK and all(1 <= d <= MAX_DIM for d in r.shape) and not any(r.dims[r.rank:]) and r.elements <= MAX_ELEMENTS


def pattern_suits(r):
    """R049."""
    if r.order == "windows":
        return r.m in (6, 8, 10, 12, 14, 16) and r.n == r.m - 2
    return r.encoding not in ("nm-6b", "nm-vi") or (r.n, r.m) in ((1, 4), (2, 4))


def size_of_data(r):
    if r.encoding in ("f32", "f16", "bf16", "i8"):
        return {"f32": 4, "f16": 2, "bf16": 2, "i8": 1}[r.encoding] * r.elements
    if r.encoding == "nm-vi":
        return up(r.rows, TILE_ROWS) // TILE_ROWS * (up(r.expanded_cols, TILE_COLS) // TILE_COLS) * TILE_BYTES
    return r.rows * {"t2": -(-r.cols // 4), "t5": -(-r.cols // 5), "nm-6b": -(-(6 * (r.cols // 4)) // 8)}[r.encoding]


def rules(r):
    """(rule, holds, expected, found) in order; each line may rely on the ones before it, since the first broken one ends the walk."""
    pattern = r.n != 0 or r.m != 0
    yield "R041", r.role is not None, "a known role", r.role_code
    yield "R042", r.encoding is not None, "a known encoding", r.encoding_code
    yield "R043", r.order in orders_of(r.encoding) and r.order_version == 1, f"version 1 of an order of {r.encoding}", (r.order_code, r.order_version)
    yield "R044", shape_is_good(r), "1 to 4 dimensions from 1 to 2^31, the others 0, and at most 2^40 elements", (r.rank, r.dims)
    yield "R045", r.rank == 2 or not (r.ternary or r.encoding == "i8"), f"rank 2 for {r.encoding}", r.rank
    yield "R045", r.role != "linear" or r.ternary, "a ternary encoding for a linear weight", r.encoding
    yield "R046", not pattern or (1 <= r.n < r.m <= 16 and r.ternary), "no pattern, or 1 <= n < m <= 16 of a ternary encoding", (r.n, r.m, r.encoding)
    yield "R047", r.group_axis == (1 if pattern else 0), f"group_axis {1 if pattern else 0}", r.group_axis
    yield "R048", not pattern or r.cols % r.m == 0, f"cols in multiples of {r.m}", r.cols
    yield "R049", pattern_suits(r), f"a pattern that {r.encoding} in order {r.order} can hold", f"{r.n}:{r.m}"
    scales = r.rows if r.ternary or r.encoding == "i8" else 0
    yield "R050", r.scale_count == scales, f"scale_count {scales}", r.scale_count
    size = size_of_data(r)
    yield "R051", r.data_bytes == size, f"data_bytes {size}", r.data_bytes
    stored = r.scales_at + 4 * scales if scales else size
    yield "R052", r.stored_bytes == stored, f"stored_bytes {stored}", r.stored_bytes
    yield "R055", r.reserved == 0, "reserved field 0", r.reserved
    yield "R056", r.non_zero <= (r.elements if r.ternary else 0), f"non_zero at most {r.elements if r.ternary else 0}", r.non_zero
    yield "R056", r.encoding not in FLOATS or r.content_digest == r.stored_digest, "content_digest to equal stored_digest", r.content_digest.hex()


def check_record(r, lenient):
    for rule, holds, expected, found in rules(r):
        if holds:
            continue
        if not (lenient and rule in LENIENT):
            refuse(rule, r.where, expected, found)
        r.opaque = True
        break
    if r.opaque:
        if not shape_is_good(r):
            refuse("R044", r.where, "1 to 4 dimensions from 1 to 2^31, the others 0, and at most 2^40 elements", (r.rank, r.dims))
        if r.reserved:
            refuse("R055", r.where, "reserved field 0", r.reserved)


def read_records(tensors, names, payload_bytes, lenient):
    """The records of the sections TENSORS and NAMES, with R040 to R062 checked."""
    count, rest = divmod(len(tensors), RECORD_BYTES)
    if rest or not 1 <= count <= MAX_TENSORS:
        refuse("R040", "section TENSORS", f"1 to {MAX_TENSORS} records of {RECORD_BYTES} bytes", f"{len(tensors)} bytes")
    records = [Record(index, tensors[index * RECORD_BYTES:(index + 1) * RECORD_BYTES]) for index in range(count)]
    for r in records:
        check_record(r, lenient)
    end = 0
    for r in records:
        if r.offset != up(end, TENSOR_ALIGN):
            refuse("R053", r.where, f"offset {up(end, TENSOR_ALIGN)}", r.offset)
        end = r.end
    if end != payload_bytes:
        refuse("R054", "section PAYLOAD", f"{end} bytes, the end of the last tensor", payload_bytes)
    name_records(records, names)
    return records


def name_records(records, names):
    end = 0
    for r in records:
        if r.name_offset != end:
            refuse("R060", r.where, f"name_offset {end}", r.name_offset)
        end += r.name_bytes
    if end != len(names):
        refuse("R060", "section NAMES", f"{end} bytes, the end of the last name", len(names))
    for r in records:
        name = names[r.name_offset:r.name_offset + r.name_bytes]
        if not 1 <= len(name) <= MAX_NAME_BYTES or not re.fullmatch(rb"[\x21\x23-\x5b\x5d-\x7e]+", name):
            refuse("R061", r.where, f"a name of 1 to {MAX_NAME_BYTES} printable bytes without quote and backslash", quote(name))
        r.name = name.decode("ascii")
    seen = set()
    for r in records:
        if r.name in seen:
            refuse("R062", r.where, "a unique name", quote(r.name))
        seen.add(r.name)
        r.where = f"tensor '{r.name}'"
