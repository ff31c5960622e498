"""Files with a fault in a tensor record or a name: SPEC.md §5 and §6."""

import copy

from build import NAMES, TENSORS, build
from invalid import BOUNDARIES, BOUNDARIES_32, Table

BASES = ("worked", "floats", "i8", "t2-dense", "t2-patterns", "t5-dense", "nm6b-2of4", "fragments-2of4", "windows-4of6", "windows-6of8", "inspect-only", "roles-and-names", "model")


def vectors(bases):
    tables = {name: Table(bases, name) for name in BASES}
    kinds(tables)
    shapes(tables)
    patterns(tables)
    sizes(tables)
    offsets(tables)
    names(tables)
    still_checked(tables["inspect-only"])
    return [v for t in tables.values() for v in t.found]


def kinds(tables):
    t, f = tables["worked"], tables["floats"]
    for name, cut in {"1": lambda r: r[:1], "159": lambda r: r[:159], "319": lambda r: r[:-1], "321": lambda r: r + b"\0"}.items():
        t.built(40, f"tensors-{name}", f"TENSORS has {name} bytes, not a multiple of 160", records=cut)
    for role in (0, 6, 255, 257, 65535):
        t.fields(41, f"role-{role}", f"role {role} is none", 0, role=role)
    for encoding in (0, 5, 15, 20, 272, 65535):
        t.fields(42, f"encoding-{encoding}", f"encoding {encoding} is none, and no inspect_only bit is set", 0, encoding=encoding)
    orders = {"t2-fragments": ("worked", 1), "t2-windows": ("worked", 2), "t2-3": ("worked", 3), "t2-max": ("worked", 65535), "t5-fragments": ("t5-dense", 1),
              "nm6b-fragments": ("nm6b-2of4", 1), "nm6b-windows": ("nm6b-2of4", 2), "nm-vi-rows": ("fragments-2of4", 0), "nm-vi-3": ("fragments-2of4", 3),
              "f32-fragments": ("floats", 1), "i8-windows": ("i8", 2)}
    for name, (base, order) in orders.items():
        tables[base].fields(43, f"order-{name}", f"the encoding has no order {order}", 0, order=order)
    for version in (0, 2, 65535):
        t.fields(43, f"order-version-{version}", f"order_version is {version}, not 1", 0, order_version=version)
    f.fields(43, "order-version-f32", "order_version of an f32 tensor is 0", 0, order_version=0)


def shapes(tables):
    t, f = tables["worked"], tables["floats"]
    for rank in (0, 5, 255):
        t.fields(44, f"rank-{rank}", f"rank is {rank}, outside 1 to 4", 0, rank=rank)
    for name, rows in {"0": 0, **BOUNDARIES}.items():
        if name not in ("2p31-1", "2p31"):
            t.fields(44, f"rows-{name}", f"a dimension is {rows}, outside 1 to 2^31", 0, shape0=rows)
    for name, cols in {"0": 0, "2p31+1": 2**31 + 1, "max": 2**64 - 1}.items():
        t.fields(44, f"cols-{name}", f"a dimension is {cols}, outside 1 to 2^31", 0, shape1=cols)
    t.fields(44, "dimension-behind-rank", "a dimension behind the rank is 1, not 0", 0, shape2=1)
    t.fields(44, "last-dimension-behind-rank", "a dimension behind the rank is 2^63, not 0", 0, shape3=2**63)
    products = {"2p62": (2**31, 2**31), "just-over-2p40": (2**20, 2**20 + 1), "2p41": (2, 2**31, 2**9), "wraps-to-0": (2**31, 2**31, 4, 1), "2p124": (2**31 - 1,) * 4}
    for name, shape in products.items():
        shape += (0,) * (4 - len(shape))
        f.fields(44, f"product-{name}", "the dimensions multiply to more than 2^40", 1, rank=4 - shape.count(0), **{f"shape{i}": d for i, d in enumerate(shape)})
    t.fields(45, "t2-rank-1", "a t2 tensor has rank 1", 0, rank=1, shape1=0, role=5)
    t.fields(45, "t2-rank-3", "a t2 tensor has rank 3", 0, rank=3, shape2=1)
    tables["i8"].fields(45, "i8-rank-1", "an i8 tensor has rank 1", 0, rank=1, shape1=0)
    tables["i8"].fields(45, "i8-rank-4", "an i8 tensor has rank 4", 0, rank=4, shape2=1, shape3=1)
    f.fields(45, "linear-bf16", "a bf16 tensor has the role linear", 3, role=1)
    tables["i8"].fields(45, "linear-i8", "an i8 tensor has the role linear", 1, role=1)


def patterns(tables):
    t2, f = tables["t2-dense"], tables["floats"]
    wrong = {"0of4": (0, 4), "2of0": (2, 0), "4of4": (4, 4), "5of4": (5, 4), "1of1": (1, 1), "1of17": (1, 17), "16of17": (16, 17), "255of255": (255, 255), "128of129": (128, 129)}
    for name, (n, m) in wrong.items():
        t2.fields(46, f"pattern-{name}", f"the pattern is {n}:{m}, not 1 <= n < m <= 16", 0, n=n, m=m, group_axis=1)
    f.fields(46, "pattern-bf16", "a bf16 tensor has a pattern", 3, n=1, m=3, group_axis=1)
    tables["i8"].fields(46, "pattern-i8", "an i8 tensor has a pattern", 0, n=2, m=4, group_axis=1)
    p = tables["t2-patterns"]
    for axis in (0, 2, 255):
        p.fields(47, f"axis-{axis}", f"group_axis is {axis} with a pattern", 0, group_axis=axis)
    t2.fields(47, "axis-1-dense", "group_axis is 1 without a pattern", 0, group_axis=1)
    f.fields(47, "axis-1-f32", "group_axis of an f32 tensor is 1", 0, group_axis=1)
    t2.fields(48, "cols-12-3of8", "12 columns are no multiple of 8", 1, n=3, m=8, group_axis=1)
    t2.fields(48, "cols-4-14of16", "4 columns are no multiple of 16", 0, n=14, m=16, group_axis=1)
    tables["fragments-2of4"].fields(48, "cols-11-2of4", "11 columns are no multiple of 4", 1, shape1=11)
    tables["windows-4of6"].fields(48, "cols-13-4of6", "13 columns are no multiple of 6", 1, shape1=13)
    free = {"dense": (0, 0, 0), "3of4": (3, 4, 1), "1of2": (1, 2, 1), "4of6": (4, 6, 1), "2of6": (2, 6, 1)}
    for base, short in (("nm6b-2of4", "nm6b"), ("fragments-2of4", "fragments")):
        for name, (n, m, axis) in free.items():
            tables[base].fields(49, f"{short}-{name}", f"this encoding and order cannot have the pattern {n}:{m}", 1, n=n, m=m, group_axis=axis)
    for name, (n, m, axis) in {"dense": (0, 0, 0), "2of4": (2, 4, 1), "1of4": (1, 4, 1), "3of6": (3, 6, 1), "5of6": (5, 6, 1), "1of3": (1, 3, 1), "2of6": (2, 6, 1), "10of12-as-9of12": (9, 12, 1)}.items():
        tables["windows-4of6"].fields(49, f"windows-{name}", f"order windows cannot have the pattern {n}:{m}", 1, n=n, m=m, group_axis=axis)


def sizes(tables):
    t, f = tables["worked"], tables["floats"]
    for name, count in {"0": 0, "1": 1, "3": 3, **BOUNDARIES}.items():
        t.fields(50, f"scales-{name}", f"scale_count is {count} for 2 rows", 0, scale_count=count)
    f.fields(50, "scales-f32", "an f32 tensor has a scale", 0, scale_count=1)
    tables["i8"].fields(50, "scales-i8-none", "an i8 tensor has no scales", 0, scale_count=0)
    t.fields(50, "rows-2p31", "2^31 rows have 2 scales", 0, shape0=2**31)
    for name, value in {"0": 0, "minus-1": 3, "plus-1": 5, **BOUNDARIES}.items():
        t.fields(51, f"data-bytes-{name}", f"data_bytes is {value} for 2 rows of 2 bytes", 0, data_bytes=value)
    t.fields(51, "cols-2p31", "2^31 columns have 2 bytes a row", 0, shape1=2**31)
    t.fields(51, "cols-9", "9 columns need 3 bytes a row", 0, shape1=9)
    others = {"f32": ("floats", 0), "f16": ("floats", 2), "bf16": ("floats", 3), "i8": ("i8", 0), "t5": ("t5-dense", 2), "nm6b": ("nm6b-2of4", 2),
              "fragments": ("fragments-2of4", 2), "windows": ("windows-4of6", 2)}
    for name, (base, number) in others.items():
        table = tables[base]
        right = table.image.get(number, "data_bytes")
        for sign in (-1, 1):
            table.fields(51, f"{name}-data-{'plus' if sign > 0 else 'minus'}", f"data_bytes of an {name} tensor is {right + sign}, not {right}", number, data_bytes=right + sign)
    w = tables["windows-6of8"]
    unexpanded = 3 * -(-w.image.get(2, "shape1") // 128) * 512
    assert unexpanded != w.image.get(2, "data_bytes")
    w.fields(51, "windows-not-expanded", "data_bytes is that of the columns before their expansion", 2, data_bytes=unexpanded)
    for name, value in {"0": 0, "data-only": 4, "scales-unaligned": 12, "minus-1": 263, "plus-1": 265, "padded": 512, "wraps": 2**64 - 256, **BOUNDARIES}.items():
        t.fields(52, f"stored-bytes-{name}", f"stored_bytes is {value}, not 256 + 4 * 2", 0, stored_bytes=value)
    f.fields(52, "stored-bytes-f32", "stored_bytes of an f32 tensor is one more than data_bytes", 0, stored_bytes=21)


def offsets(tables):
    t = tables["worked"]
    for name, value in {"256": 256, "max": 2**64 - 1}.items():
        t.fields(53, f"first-{name}", f"the first tensor is said to begin at {value}", 0, offset=value)
    for name, value in {"same": 0, "overlap": 256, "unaligned": 264, "plus-1": 513, "gap": 768, "wraps": 2**64 - 256, "absolute": 16384 + 512, **BOUNDARIES}.items():
        t.fields(53, f"second-{name}", f"the second tensor is said to begin at {value}, not 512", 1, offset=value)
    r = tables["roles-and-names"]
    swapped = r.image.copy().set(0, offset=r.image.get(1, "offset")).set(1, offset=0)
    r.add(53, "swapped", "the first two tensors have each other's offset", swapped.seal())
    length = len(t.image.data)
    for name, by in {"plus-1": 1, "plus-256": 256, "minus-1": -1, "minus-8": -8}.items():
        t.add(54, f"payload-{name}", "PAYLOAD does not end where the last tensor does", t.resized(length + by).seal())
    for name, value in {"1": 1, "max": 2**32 - 1}.items():
        t.fields(55, f"reserved-{name}", "the reserved field of a record is not zero", 1, reserved=value)
    for name, value in {"elements-plus-1": 13, **BOUNDARIES}.items():
        t.fields(56, f"non-zero-{name}", f"non_zero is {value}, of 12 elements", 0, non_zero=value)
    f, i8 = tables["floats"], tables["i8"]
    f.fields(56, "non-zero-f32", "non_zero of an f32 tensor is 1", 0, non_zero=1)
    i8.fields(56, "non-zero-i8", "non_zero of an i8 tensor is 139", 0, non_zero=139)
    for number, name in ((0, "f32"), (2, "f16"), (3, "bf16")):
        f.fields(56, f"content-{name}", f"content_digest of an {name} tensor is not stored_digest", number, content_digest=b"\x01" * 32)


def names(tables):
    t, model = tables["worked"], tables["model"]
    for name, value in {"1": 1, **BOUNDARIES_32}.items():
        t.fields(60, f"first-name-{name}", f"the first name is said to begin at {value}, not 0", 0, name_offset=value)
    for name, value in {"overlap": 0, "gap": 2, "max": 2**32 - 1}.items():
        t.fields(60, f"second-name-{name}", f"the second name is said to begin at {value}, not 1", 1, name_offset=value)
    for name, value in {"short": 3, "long": 5, "2p31": 2**31, "wraps": 2**32 - 1}.items():
        t.fields(60, f"last-name-{name}", f"the last name is said to have {value} bytes, not 4", 1, name_bytes=value)
    t.built(60, "byte-behind-names", "a byte of NAMES belongs to no name", names=b"wnormx")
    t.built(60, "separator", "NAMES has a zero byte after each name", names=b"w\0norm\0")
    at = t.image.sections[NAMES][1]
    for byte in (0x00, 0x0A, 0x20, 0x22, 0x5C, 0x7F, 0x80, 0xC3, 0xFF):
        t.add(61, f"byte-{byte:02x}", f"a name has the byte 0x{byte:02X}", t.image.copy().put(at + 2, bytes([byte])).seal())
    for name, value in {"empty": "", "257-bytes": "n" * 257}.items():
        renamed = copy.deepcopy(t.model)
        renamed.tensors[1].name = value
        t.add(61, f"name-{name}", f"a name has {len(value)} bytes", build(renamed))
    for name, first, other in (("next-twice", 1, 2), ("far-twice", 3, 12)):
        renamed = copy.deepcopy(model.model)
        renamed.tensors[other].name = renamed.tensors[first].name
        model.add(62, name, "two tensors have the same name", build(renamed))


def still_checked(t):
    """An unknown inspect_only bit excuses what a record means, not where its bytes are."""
    why = "an unknown inspect_only bit does not excuse it: "
    t.fields(44, "opaque-rank-0", why + "rank is 0", 0, rank=0)
    t.fields(53, "opaque-offset", why + "the first tensor is said to begin at 1", 0, offset=1)
    t.fields(55, "opaque-reserved", why + "the reserved field is 1", 0, reserved=1)
    t.fields(53, "opaque-stored-bytes", why + "the second tensor begins too early", 0, stored_bytes=257)
