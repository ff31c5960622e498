"""The annotated dump of SPEC.md §12: every byte of a small file, with its offset and its meaning."""

import struct

from build import ENTRY, KINDS, MANIFEST, NAMES, PAYLOAD, PREFIX, RECORD, TENSOR_ALIGN, TENSORS
from encode import up

SHOWN = 16


def dump(model, image):
    out = ["Every byte of worked.sbnc: offset, bytes in hexadecimal, meaning. Long runs are given as [byte × count]. Integers are little-endian.", ""]
    at = 0

    def line(data, meaning):
        nonlocal at
        out.append(f"{at:6}  {shown(data)}  {meaning}")
        at += len(data)

    def fields(table, title):
        out.append(f"-- {title}")
        base = at
        for name, (start, form) in table.items():
            data = bytes(image.data[base + start:base + start + struct.calcsize("<" + form)])
            line(data, f"{name} {meaning(name, form, data)}".rstrip())

    def zeros(end, why):
        if end > at:
            assert not any(image.data[at:end])
            line(bytes(end - at), why)

    fields(PREFIX, "prefix, §3")
    for kind in image.sections:
        fields(ENTRY, f"section table entry, §4: {KINDS[kind]}")
    for kind, (_, offset, length) in image.sections.items():
        zeros(offset, "zero to a multiple of 4096 (R028)")
        out.append(f"== {KINDS[kind]}")
        if kind == TENSORS:
            for t in model.tensors:
                fields(RECORD, f"record, §5: {t.name}")
        elif kind == NAMES:
            for t in model.tensors:
                line(t.name.encode(), f'"{t.name}", end to end without separators')
        elif kind == MANIFEST:
            text = bytes(image.data[offset:offset + length])
            for start in range(0, length, SHOWN):
                line(text[start:start + SHOWN], text[start:start + SHOWN].decode())
        elif kind == PAYLOAD:
            payload(model, image, line, zeros)
    assert at == len(image.data)
    return "\n".join(out + [f"{at:6}  end of the file", ""])


def payload(model, image, line, zeros):
    for number, (t, (offset, data_bytes, stored)) in enumerate(zip(model.tensors, image.extents)):
        zeros(offset, "zero to a multiple of 256 between extents (R071)")
        data = bytes(image.data[offset:offset + data_bytes])
        rows = len(t.values) if t.scales else 1
        for r in range(rows):
            part = data[r * data_bytes // rows:(r + 1) * data_bytes // rows]
            line(part, f"{t.name}, row {r}: trits {t.values[r]}" if t.scales else f"{t.name}: {list(struct.unpack(f'<{data_bytes // 4}f', part))}")
        if t.scales:
            zeros(offset + up(data_bytes, TENSOR_ALIGN), f"{t.name}: zero to the scales, at a multiple of 256 from the extent's start (R071)")
            scales = image.scales(number)
            for r in range(rows):
                part = bytes(scales[4 * r:4 * r + 4])
                line(part, f"{t.name}: scale of row {r} = {struct.unpack('<f', part)[0]}")


def shown(data):
    if len(data) > 32 and len(set(data)) == 1:
        return f"[{data[0]:02x} × {len(data)}]"
    return data.hex(" ")


def meaning(name, form, data):
    if name in ("magic", "root") or "digest" in name:
        return ""
    return "= " + str(struct.unpack("<" + form, data)[0])
