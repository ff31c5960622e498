"""Files with a fault in the tensors' bytes: SPEC.md §9 and §10.

Where decoding still gives the same matrix the content digest stays; where it cannot be decoded any more the content digest means nothing.
"""

import copy
import struct

import encode
from build import blake3, build
from encode import fragments, index_place, set_nibble, up, value_place
from invalid import Table, f32, flip

BASES = ("worked", "floats", "i8", "t2-dense", "t2-patterns", "t5-dense", "t5-patterns", "nm6b-2of4", "nm6b-1of4", "fragments-2of4", "fragments-1of4",
         "windows-4of6", "windows-6of8", "windows-14of16", "inspect-only")
NAN = {"nan": 0x7FC00000, "nan-signalling": 0x7F800001, "nan-negative": 0xFFC00000, "infinity": 0x7F800000, "minus-infinity": 0xFF800000}


def vectors(bases):
    tables = {name: Table(bases, name) for name in BASES}
    padding_and_digests(tables)
    values(tables)
    content(tables)
    too_many(tables)
    positional(tables)
    six_bits(tables)
    tiles(tables)
    windows(tables)
    return [v for t in tables.values() for v in t.found]


def patched(t, tensor, at, new, content=True):
    """Bytes of an extent replaced, and all digests right."""
    return t.image.copy().put(t.image.extents[tensor][0] + at, new).seal_tensor(tensor, content).seal()


def padding_and_digests(tables):
    t = tables["worked"]
    for name, at in {"first": 4, "middle": 100, "last": 255}.items():
        t.add(71, f"before-scales-{name}", f"byte {at} of the extent, between data and scales, is not zero", patched(t, 0, at, b"\x01"))
    start = t.image.extents[0][0]
    for name, at in {"first": 264, "last": 511}.items():
        t.add(71, f"between-{name}", "a byte between two extents is not zero", flip(t.image, start + at, 0x80))
    opaque = tables["inspect-only"]
    opaque.add(71, "between-opaque", "a byte behind an opaque tensor is not zero", flip(opaque.image, opaque.image.extents[0][0] + 37))
    for name, at in {"data": 0, "scale": 256, "last": 263}.items():
        t.add(72, f"byte-{name}", f"byte {at} of an extent is changed and its digest is not", flip(t.image, start + at), kind="integrity")
    for base in ("floats", "i8", "t5-dense", "nm6b-2of4", "fragments-2of4", "windows-4of6", "inspect-only"):
        u = tables[base]
        u.add(72, f"byte-{base}", "a bit of an extent is changed and its digest is not", flip(u.image, u.image.extents[0][0], 4), kind="integrity")
    t.fields(72, "digest-zero", "stored_digest is zero", 0, stored_digest=bytes(32), kind="integrity")
    data = t.image.extent(0)[:4]
    t.fields(72, "digest-of-data", "stored_digest is that of the data without padding and scales", 0, stored_digest=blake3(data), kind="integrity")


def values(tables):
    scales = {**NAN, "zero": 0, "minus-zero": 1 << 31, "minus-one": 0xBF800000, "minus-tiny": 0x80000001, "above-10000": 0x461C4001, "largest": 0x7F7FFFFF}
    t, i8 = tables["worked"], tables["i8"]
    for name, bits in scales.items():
        t.add(73, f"scale-{name}", f"a scale has the bits {bits:08x}", patched(t, 0, 260, f32(bits)))
    for name in ("nan", "zero"):
        i8.add(73, f"scale-i8-{name}", f"a scale of an i8 tensor has the bits {scales[name]:08x}", patched(i8, 0, 256 + 24, f32(scales[name])))
    f = tables["floats"]
    for name, bits in NAN.items():
        f.add(74, f"f32-{name}", f"an f32 value has the bits {bits:08x}", patched(f, 0, 16, f32(bits)))
        f.add(74, f"bf16-{name}", f"a bf16 value is not finite ({name})", patched(f, 3, 4, struct.pack("<H", bits >> 16 | bits & 1)))
    for bits in (0x7E00, 0x7C01, 0x7C00, 0xFC00, 0xFFFF):
        f.add(74, f"f16-{bits:04x}", f"an f16 value has the bits {bits:04x}", patched(f, 2, 0, struct.pack("<H", bits)))
    for name, at in {"first": 0, "last": 139}.items():
        image = t_content(i8.image, 0, {at: 0x80})
        i8.add(75, f"minus-128-{name}", "an i8 value is -128", image.put(image.extents[0][0] + at, b"\x80").seal_tensor(0).seal())


def t_content(image, tensor, bytes_at):
    """A copy whose decoded content has other bytes."""
    image = image.copy()
    decoded = bytearray(image.contents[tensor])
    for at, byte in bytes_at.items():
        decoded[at] = byte
    image.contents = [*image.contents[:tensor], bytes(decoded), *image.contents[tensor + 1:]]
    return image


def content(tables):
    for base in ("worked", "i8", "t5-dense", "nm6b-2of4", "fragments-2of4", "windows-4of6"):
        t = tables[base]
        digest = bytearray(t.image.get(0, "content_digest"))
        digest[0] ^= 1
        t.fields(76, f"content-{base}", "the content digest is not that of the decoded content", 0, content_digest=bytes(digest), deep=True, kind="integrity")
    t = tables["worked"]
    decoded, stored = t.image.contents[0], t.image.extent(0)
    others = {"without-scales": decoded, "of-extent": stored, "scales-first": t.image.scales(0) + decoded, "codes": bytes((b + 1) % 256 for b in decoded) + t.image.scales(0)}
    for name, data in others.items():
        t.fields(76, f"content-{name}", f"the content digest was computed over something else ({name})", 0, content_digest=blake3(data), deep=True, kind="integrity")
    for base, number in (("worked", 0), ("t5-dense", 1), ("nm6b-2of4", 1), ("fragments-2of4", 2), ("windows-6of8", 1)):
        u = tables[base]
        right = u.image.get(number, "non_zero")
        for value in (0, right - 1, right + 1):
            u.fields(76, f"non-zero-{base}-{value}", f"non_zero is {value}, not {right}", number, non_zero=value, deep=True, kind="integrity")


def too_many(tables):
    for encoding in ("t2", "t5"):
        t = tables[f"{encoding}-patterns"]
        for number, tensor in enumerate(t.model.tensors):
            (n, m), changed = tensor.nm, copy.deepcopy(t.model)
            # The last group of the last row holds one non-zero too many, at its end.
            changed.tensors[number].values[-1][-m:] = [0] * (m - n - 1) + [1, -1] * (n // 2) + [1] * (n % 2) + [-1]
            t.add(77, f"{encoding}-{n}of{m}", f"the last group of {m} columns holds {n + 1} non-zeros", build(changed), deep=True)


def positional(tables):
    w, t2, t5 = tables["worked"], tables["t2-dense"], tables["t5-dense"]
    for slot in range(4):
        byte = t2.image.extent(1)[7] | 3 << 2 * slot
        t2.add(80, f"code-3-slot-{slot}", f"slot {slot} of a byte has the code 3", patched(t2, 1, 7, bytes([byte])))
    t2.add(80, "code-3-first", "the first code of a tensor is 3", patched(t2, 2, 0, bytes([t2.image.extent(2)[0] | 3])))
    size = t2.image.extents[2][1]
    t2.add(80, "code-3-last", "the last code of a tensor is 3", patched(t2, 2, size - 1, bytes([t2.image.extent(2)[size - 1] | 0xC0])))
    t2.add(80, "code-3-all", "a byte is four codes 3", patched(t2, 2, 99, b"\xff"))
    for row, byte in ((0, w.image.extent(0)[1]), (1, w.image.extent(0)[3])):
        for shift, code in ((4, 0), (6, 0), (6, 2)):
            made = byte & ~(3 << shift) & 255 | code << shift
            w.add(81, f"padding-row-{row}-slot-{shift // 2}-code-{code}", f"a column beyond cols has the code {code}, not 1", patched(w, 0, 1 + 2 * row, bytes([made])))
    for byte in (243, 244, 255):
        t5.add(82, f"byte-{byte}", f"a t5 byte is {byte}, above 242", patched(t5, 2, 40, bytes([byte])))
    t5.add(82, "last-byte", "the last t5 byte of a tensor is 243", patched(t5, 2, t5.image.extents[2][1] - 1, b"\xf3"))
    # 1×4 has one digit of padding, 17×12 has three in its last byte.
    for name, tensor, at, digit, sign in (("first-row-0", 0, 0, 4, -1), ("first-row-2", 0, 0, 4, 1), ("third-0", 1, 2, 2, -1), ("third-2", 1, 2, 3, 1), ("last-2", 1, 50, 4, 1)):
        byte = t5.image.extent(tensor)[at] + sign * 3**digit
        t5.add(83, f"padding-{name}", f"digit {digit}, of a column beyond cols, is {1 + sign}, not 1", patched(t5, tensor, at, bytes([byte])))


def six_bits(tables):
    def code(t, tensor, group, value):
        bits = int.from_bytes(t.image.extent(tensor)[:t.image.extents[tensor][1]], "little")
        cols = t.image.get(tensor, "shape1")
        at = group // (cols // 4) * 8 * (up(6 * cols // 4, 8) // 8) + 6 * (group % (cols // 4))
        bits = bits & ~(63 << at) | value << at
        return patched(t, tensor, 0, bits.to_bytes(t.image.extents[tensor][1], "little"))

    two, one = tables["nm6b-2of4"], tables["nm6b-1of4"]
    for value in (33, 34, 63):
        for name, group in {"first": 0, "second": 1, "last": 33 * 65 - 1}.items():
            two.add(84, f"code-{value}-{name}", f"a group has the code {value}, above 32", code(two, 2, group, value))
    for value in (9, 32, 33):
        one.add(84, f"1of4-code-{value}", f"with 1:4 a group has the code {value}, above 8", code(one, 1, 4, value))
    for name, t, tensor, at, bit in (("low", two, 0, 0, 6), ("high", two, 0, 0, 7), ("18-bits", two, 1, 2, 2), ("last-row", two, 1, 50, 7), ("1of4", one, 2, 48, 6)):
        byte = t.image.extent(tensor)[at] | 1 << bit
        t.add(85, f"bit-{name}", f"bit {bit} of a row's last byte belongs to no group and is 1", patched(t, tensor, at, bytes([byte])))


def nibbles(t, tensor, places):
    """Nibbles of an nm-vi tensor replaced: (place, nibble) pairs."""
    data = bytearray(t.image.extent(tensor)[:t.image.extents[tensor][1]])
    for place, nibble in places:
        set_nibble(data, place, nibble)
    return patched(t, tensor, 0, data)


def group_where(trits, wanted, rows=range(33)):
    """The first (row, group) of a matrix whose group of four satisfies `wanted`."""
    return next((r, q) for r in rows for q in range(len(trits[r]) // 4) if wanted(tuple(p for p in range(4) if trits[r][4 * q + p])))


def tiles(tables):
    two, one, win = tables["fragments-2of4"], tables["fragments-1of4"], tables["windows-4of6"]
    big = two.model.tensors[2].values
    cols = up(len(big[0]), 128)
    for number, code in enumerate(range(9, 16)):
        row, group = (0, 1, 7, 16, 23, 32, 4)[number], (0, 31, 32, 64, 5, 17, 40)[number]
        two.add(86, f"pair-{code}", f"a pair code is {code}, above 8", nibbles(two, 2, [(value_place(row, group, number % 2, cols), code)]))
    for number, nibble in enumerate((0, 1, 2, 3, 5, 6, 7, 10, 11, 15)):
        row, group = (0, 8, 15, 16, 31, 32, 3, 20, 10, 5)[number], (0, 16, 31, 33, 64, 7, 1, 50, 60, 15)[number]
        two.add(87, f"nibble-{nibble}", f"an index nibble is {nibble}: its pair is not i0 < i1", nibbles(two, 2, [(index_place(row, group, cols), nibble)]))
    win.add(86, "pair-windows", "a pair code of an expanded matrix is 9", nibbles(win, 1, [(value_place(1, 0, 0, 128), 9)]))
    win.add(87, "nibble-windows", "an index nibble of an expanded matrix is 0", nibbles(win, 1, [(index_place(9, 1, 128), 0)]))
    two.add(86, "pair-in-padding", "a pair code beyond the matrix is 15", nibbles(two, 0, [(value_place(7, 31, 1, 128), 15)]))
    two.add(87, "nibble-in-padding", "an index nibble beyond the matrix is 15", nibbles(two, 0, [(index_place(15, 31, 128), 15)]))
    for nibble in (8, 9, 12, 13, 14):
        row, group = group_where(big, lambda at: at == ())
        two.add(88, f"none-at-{nibble}", f"a group without non-zeros has the index nibble {nibble}, not 4", nibbles(two, 2, [(index_place(row, group, cols), nibble)]))
    for p, nibble, slot in ((0, 8, 0), (0, 12, 0), (1, 9, 0), (1, 13, 0), (2, 9, 1), (2, 14, 0), (3, 13, 1), (3, 14, 1)):
        row, group = group_where(big, lambda at: at == (p,))
        places = [(index_place(row, group, cols), nibble)] + moved(big, row, group, p, slot, cols)
        two.add(88, f"one-at-{p}-nibble-{nibble}", f"a group with one non-zero, at {p}, has a pair that is not the smallest (nibble {nibble})", nibbles(two, 2, places))
    r, q = group_where(one.model.tensors[2].values, lambda at: len(at) == 1 and at[0] > 0)
    changed = copy.deepcopy(one.model)
    changed.tensors[2].values[r][4 * q] = 1
    one.add(88, "1of4-with-two", "with 1:4 a group has two non-zeros", build(changed))
    padding(two, win)


def moved(trits, row, group, p, slot, cols):
    """Pair codes that show the group's only non-zero in `slot`, the other row of each pair staying as it is."""
    def shown(r, s):
        return encode.slots(trits[r][4 * group:4 * group + 4])[1][s] if r < len(trits) else 0

    out = []
    for s in (0, 1):
        mine, other = (trits[row][4 * group + p] if s == slot else 0), shown(row ^ 8, s)
        out.append((value_place(min(row, row ^ 8), group, s, cols), encode.PAIR_CODES[(mine, other) if row % 16 < 8 else (other, mine)]))
    return out


def padding(two, win):
    """Groups beyond the matrix that would be right inside it."""
    for name, row, group in (("row-1", 1, 0), ("row-15", 15, 0), ("column-4", 0, 1), ("column-124", 0, 31), ("corner", 7, 31)):
        low = row % 8
        seen = {r: encode.slots(two.model.tensors[0].values[0][:4])[1][0] if (r, group) == (0, 0) else 0 for r in (low, low + 8)}
        seen[row] = 1
        two.add(89, f"padding-{name}", f"a group beyond the 1x4 matrix holds a non-zero (row {row}, group {group})",
                nibbles(two, 0, [(value_place(low, group, 0, 128), encode.PAIR_CODES[seen[low], seen[low + 8]])]))
    two.add(89, "padding-last-column", "a group right of the 33x260 matrix holds a non-zero", nibbles(two, 2, [(value_place(32, 65, 0, 384), encode.PAIR_CODES[-1, 0])]))
    two.add(89, "padding-last-row", "a group below the 33x260 matrix holds a non-zero", nibbles(two, 2, [(value_place(47 - 8, 0, 0, 384), encode.PAIR_CODES[0, -1])]))
    win.add(89, "padding-windows", "a group right of an expanded matrix holds a non-zero", nibbles(win, 1, [(value_place(16, 6, 0, 128), encode.PAIR_CODES[1, 0])]))


def windows(tables):
    """One block of the first tensor (one row) placed as §10.5 does not place it: windows as lists of columns, of which each holds +1."""
    cases = {
        "windows-4of6": {"late": [[], [2]], "late-second": [[0], [2]], "late-3": [[], [3]], "twice": [[2], [2]], "twice-full": [[1, 2], [2]],
                         "higher-kept": [[0, 3], [2]], "higher-kept-both": [[2, 3], [2, 4]], "moved-with-room": [[0], [3, 5]]},
        "windows-6of8": {"late": [[], [], [4]], "late-middle": [[0, 1], [4], [5]], "early-window": [[0], [2, 3], []], "twice-far": [[0, 1], [2, 4], [4]],
                         "higher-kept": [[0, 1], [2, 5], [4]]},
        "windows-14of16": {"last": [[], [], [], [], [], [], [12]], "last-twice": [[], [], [], [], [], [12], [12]], "chain": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10], [12, 13]]},
    }
    for base, placements in cases.items():
        t = tables[base]
        m = t.model.tensors[0].nm[1]
        for name, columns in placements.items():
            changed = copy.deepcopy(t.model)
            tensor, expanded, row = changed.tensors[0], [], [0] * len(changed.tensors[0].values[0])
            for w, held in enumerate(columns):
                window = [0] * 4
                for column in held:
                    window[column - 2 * w] = row[column] = 1
                expanded += window
            expanded += encode.expand(row[m:], m)
            tensor.values, tensor.data = [row], fragments([expanded])
            t.add(90, f"{base}-{name}", f"windows {columns} of a block: a non-zero that its earlier window had to hold", build(changed))
