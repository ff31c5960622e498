"""The ternary encodings of SPEC.md §10, one function each, and nothing that checks: the vectors' generator also has to write what a rule forbids.

A matrix is a list of rows of trits. Every function returns the data of the tensor, without padding and scales.
"""

import struct

SMALLEST_PAIRS = {(): (0, 1), (0,): (0, 1), (1,): (0, 1), (2,): (0, 2), (3,): (0, 3)}
PAIR_CODES = {(1, 1): 0, (1, 0): 1, (0, 1): 2, (1, -1): 3, (-1, 1): 4, (-1, 0): 5, (0, -1): 6, (-1, -1): 7, (0, 0): 8}
TWO_AT = {(0, 1): 0, (0, 2): 1, (0, 3): 2, (1, 2): 3, (1, 3): 4, (2, 3): 5}
TILE_ROWS, TILE_COLS, TILE_BYTES = 16, 128, 512
V0, M0, V1, M1 = 0, 1, 2, 3


def up(x, a):
    return -(-x // a) * a


def encode(encoding, order, trits, m):
    if encoding == "t2":
        return b"".join(positional(row, 4, 4) for row in trits)
    if encoding == "t5":
        return b"".join(positional(row, 5, 3) for row in trits)
    if encoding == "nm-6b":
        return b"".join(six_bits(row) for row in trits)
    if order == "windows":
        trits = [expand(row, m) for row in trits]
    return fragments(trits)


def positional(row, per_byte, base):
    """t2 and t5: the digit t + 1 of each trit, the first one lowest, padded with digit 1."""
    digits = [t + 1 for t in row] + [1] * (up(len(row), per_byte) - len(row))
    return bytes(sum(d * base**i for i, d in enumerate(digits[at:at + per_byte])) for at in range(0, len(digits), per_byte))


def six_bits(row):
    bits = 0
    for q in range(len(row) // 4):
        bits |= group_code(row[4 * q:4 * q + 4]) << 6 * q
    return bits.to_bytes(up(6 * len(row) // 4, 8) // 8, "little")


def group_code(group):
    at = tuple(p for p, t in enumerate(group) if t)
    sign = [int(group[p] < 0) for p in at]
    if not at:
        return 0
    if len(at) == 1:
        return 1 + 2 * at[0] + sign[0]
    return 9 + 4 * TWO_AT[at] + sign[0] + 2 * sign[1]


def slots(group):
    """The index pair of a group and the values in its two slots."""
    at = tuple(p for p, t in enumerate(group) if t)
    i0, i1 = SMALLEST_PAIRS.get(at, at)
    return (i0, i1), (group[i0], group[i1])


def fragments(trits):
    rows, cols = up(len(trits), TILE_ROWS), up(len(trits[0]), TILE_COLS)
    padded = [row + [0] * (cols - len(row)) for row in trits] + [[0] * cols] * (rows - len(trits))
    data = bytearray(rows // TILE_ROWS * (cols // TILE_COLS) * TILE_BYTES)
    pairs = [[slots(row[4 * q:4 * q + 4]) for q in range(cols // 4)] for row in padded]
    for r, row in enumerate(pairs):
        for q, ((i0, i1), values) in enumerate(row):
            set_nibble(data, index_place(r, q, cols), i0 + 4 * i1)
            if r % 16 < 8:
                other = pairs[r + 8][q][1]
                for slot in (0, 1):
                    set_nibble(data, value_place(r, q, slot, cols), PAIR_CODES[values[slot], other[slot]])
    return bytes(data)


def index_place(row, group, cols):
    """(byte, shift) of the index nibble of a group of four columns, `cols` being a multiple of 128."""
    half, q = group % 32 // 16, group % 16
    lane = row % 8 * 4 + q // 8 * 2 + row % 16 // 8
    return word_place(row, group, cols, lane, (M0, M1)[half], q % 8)


def value_place(row, group, slot, cols):
    """(byte, shift) of the pair code that holds the value of `slot`, with that of the row 8 below or above."""
    half, kc = group % 32 // 16, 2 * (group % 16) + slot
    lane = row % 8 * 4 + kc % 16 // 4
    return word_place(row, group, cols, lane, (V0, V1)[half], kc % 4 + 4 * (kc // 16))


def word_place(row, group, cols, lane, word, e):
    tile = row // TILE_ROWS * (cols // TILE_COLS) + group // 32
    return tile * TILE_BYTES + lane * 16 + word * 4 + e // 2, 4 * (e % 2)


def set_nibble(data, place, nibble):
    at, shift = place
    data[at] = data[at] & ~(15 << shift) & 255 | nibble << shift


def expand(row, m):
    """The windows of a row of an (m−2):m pattern, each non-zero in the first window that covers it and has room."""
    out = []
    for b in range(0, len(row), m):
        left = list(row[b:b + m])
        for w in range(m // 2 - 1):
            window = [0] * 4
            for i in range(4):
                if left[2 * w + i] and sum(map(bool, window)) < 2:
                    window[i], left[2 * w + i] = left[2 * w + i], 0
            out += window
    return out


def zstd_frame(data, raw_bytes=None, declare=True, dictionary=0):
    """A zstd frame (RFC 8878) of raw and RLE blocks. The faults a vector needs: a false or missing content size, a dictionary id."""
    size = len(data) if raw_bytes is None else raw_bytes
    descriptor = (1 if dictionary else 0)
    if declare:
        head = struct.pack("<B", descriptor | 0x20 | 0x80) + bytes([dictionary] if dictionary else []) + struct.pack("<I", size)
    else:
        head = struct.pack("<BB", descriptor, 0x38) + bytes([dictionary] if dictionary else [])
    return struct.pack("<I", 0xFD2FB528) + head + b"".join(zstd_blocks(data))


def zstd_blocks(data):
    """RLE blocks for runs of 64 bytes and more, raw blocks between; a block holds at most 128 KiB."""
    runs, at = [], 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] == data[at] and end - at < 1 << 17:
            end += 1
        if end - at >= 64:
            runs.append((1, at, end))
        elif runs and runs[-1][0] == 0 and end - runs[-1][1] <= 1 << 17:
            runs[-1] = (0, runs[-1][1], end)
        else:
            runs.append((0, at, end))
        at = end
    for kind, start, end in runs or [(0, 0, 0)]:
        last = end == len(data)
        yield struct.pack("<I", int(last) | kind << 1 | end - start << 3)[:3] + (data[start:start + 1] if kind else data[start:end])
