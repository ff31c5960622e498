"""nm-vi, the encoding that sparse tensor cores read (§10.4), and its windows order for (M−2):M patterns (§10.5).

A tile's words are first brought into row-major order with one byte, the *key*, for each group of four columns; the rules and the trits are then
functions of the key: bits 0 to 2 number the index nibble, the rest is 9 possible pairs of slot values.
"""

from bytewise import add, crop, first, table
from records import TILE_BYTES, TILE_COLS, TILE_ROWS
from refusal import refuse

PAIRS = ((1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0))
NIBBLES = (4, 8, 9, 12, 13, 14)
TILE_GROUPS = TILE_COLS // 4

V_BAD = table(lambda b: b & 15 > 8 or b >> 4 > 8)
M_BAD = table(lambda b: b & 15 not in NIBBLES or b >> 4 not in NIBBLES)
M_KEY = [table(lambda b, shift=shift: NIBBLES.index(b >> shift & 15) if b >> shift & 15 in NIBBLES else 0) for shift in (0, 4)]
# A byte of V holds both slots of one group, of row g (half 0) and of row 8 + g (half 1).
V_KEY = [table(lambda b, half=half: 8 * (PAIRS[b & 15][half] + 1 + 3 * (PAIRS[b >> 4][half] + 1)) if not V_BAD[b] else 0) for half in (0, 1)]


def slots(key):
    """v0, v1 and the index nibble."""
    return (key >> 3) % 3 - 1, (key >> 3) // 3 - 1, NIBBLES[key & 7]


def is_key(key):
    return key >> 3 < 9 and key & 7 < 6


def group(key):
    """The four trits of a key, as bytes."""
    v0, v1, nibble = slots(key)
    trits = [0, 0, 0, 0]
    trits[nibble & 3], trits[nibble >> 2] = v0 & 255, v1 & 255
    return trits


def breaks_r088(key, n):
    v0, v1, nibble = slots(key)
    return (v0 == 0 and nibble & 3 != 0) or (v1 == 0 and nibble != 4) or (n == 1 and v0 != 0 and v1 != 0)


KEY_TRITS = [table(lambda k, i=i: group(k)[i] if is_key(k) else 0) for i in range(4)]
KEY_MASK = table(lambda k: sum(1 << i for i in range(4) if group(k)[i]) if is_key(k) else 0)
ZERO_KEY = next(k for k in range(256) if is_key(k) and slots(k) == (0, 0, 4))
NOT_ZERO = table(lambda k: k != ZERO_KEY)


def key_matrix(r, data):
    """Keys of the padded matrix, row-major, and how many a row has."""
    tiles = len(data) // TILE_BYTES
    tile_rows = -(-r.rows // TILE_ROWS)
    across = tiles // tile_rows
    by_row = bytearray(tiles * TILE_ROWS * TILE_GROUPS)  # [row of the tile][tile][group]
    for row in range(TILE_ROWS):
        for column in range(TILE_GROUPS):
            h, q = divmod(column, 16)
            kc = 2 * q
            v_lane, v_nibble = 4 * (row % 8) + kc % 16 // 4, kc % 4 + 4 * (kc // 16)
            m_lane, m_nibble = 4 * (row % 8) + 2 * (q // 8) + row // 8, q % 8
            v = data[v_lane * 16 + 8 * h + v_nibble // 2::TILE_BYTES].translate(V_KEY[row // 8])
            m = data[m_lane * 16 + 8 * h + 4 + m_nibble // 2::TILE_BYTES].translate(M_KEY[m_nibble % 2])
            start = row * tiles * TILE_GROUPS
            by_row[start + column:start + tiles * TILE_GROUPS:TILE_GROUPS] = add(v, m)
    width = across * TILE_GROUPS
    rows = [by_row[(row * tile_rows + i) * width:(row * tile_rows + i + 1) * width] for i in range(tile_rows) for row in range(TILE_ROWS)]
    return b"".join(rows), width


def validate(r, data):
    """R086 to R090."""
    check_words("R086", r, data, 0, V_BAD, "pair codes 0 to 8")
    check_words("R087", r, data, 4, M_BAD, "index nibbles 4, 8, 9, 12, 13 and 14")
    keys, width = key_matrix(r, data)
    n = r.n if r.order == "fragments" else 2
    at = first(keys, table(lambda k: is_key(k) and breaks_r088(k, n)))
    if at >= 0:
        refuse("R088", r.where, f"the smallest pair that covers the non-zeros{', of which one at most' if n == 1 else ''}",
               f"values {slots(keys[at])[:2]} with nibble {slots(keys[at])[2]} at group {at % width} of row {at // width}")
    groups = r.expanded_cols // 4
    at = first(keys[r.rows * width:], NOT_ZERO)
    if at >= 0:
        refuse("R089", r.where, "zero groups beyond the matrix", f"another at group {at % width} of row {r.rows + at // width}")
    if groups < width:
        at = first(b"".join([keys[start + groups:start + width] for start in range(0, len(keys), width)]), NOT_ZERO)
        if at >= 0:
            spare = width - groups
            refuse("R089", r.where, "zero groups beyond the matrix", f"another at group {groups + at % spare} of row {at // spare}")
    if r.order == "windows":
        validate_windows(r, crop(keys, width, groups)[:r.rows * groups])


def check_words(rule, r, data, start, bad, expected):
    """V words begin at bytes 0 and 8 of a lane's 16, M words at 4 and 12."""
    for byte in range(4):
        at = first(data[start + byte::8], bad)
        if at >= 0:
            refuse(rule, r.where, expected, f"byte {data[start + byte + 8 * at]:#04x} at {start + byte + 8 * at}")


def may_follow(before, here):
    """R090 for the masks of non-zeros of two neighbouring windows of a block."""
    left = not here & 1 or before == 0b0011
    right = not here & 2 or (bin(before).count("1") == 2 and not before & 0b1000)
    return left and right


FOLLOWS_BADLY = table(lambda pair: pair < 64 and not may_follow(pair & 15, pair >> 4))
FIRST_TWO = table(lambda mask: (mask & 3) << 4)


def validate_windows(r, keys):
    windows = r.m // 2 - 1
    masks = keys.translate(KEY_MASK)
    for w in range(1, windows):
        at = first(add(masks[w - 1::windows], masks[w::windows].translate(FIRST_TWO)), FOLLOWS_BADLY)
        if at >= 0:
            blocks = r.cols // r.m
            refuse("R090", r.where, f"a non-zero in the first two columns of window {w} only where window {w - 1} holds two before it",
                   f"another placement in block {at % blocks} of row {at // blocks}")


def decode(r, data):
    keys, width = key_matrix(r, data)
    groups = r.expanded_cols // 4
    keys = crop(keys, width, groups)[:r.rows * groups]
    trits = bytearray(len(keys) * 4)
    for i, trit in enumerate(KEY_TRITS):
        trits[i::4] = keys.translate(trit)
    return add_windows(r, bytes(trits)) if r.order == "windows" else bytes(trits)


def add_windows(r, expanded):
    """§10.5 backwards. R090 leaves at most one window with a non-zero for each column."""
    windows = r.m // 2 - 1
    trits = bytearray(r.rows * r.cols)
    for column in range(r.m):
        shares = [expanded[4 * w + column - 2 * w::4 * windows] for w in (column // 2 - 1, column // 2) if 0 <= w < windows]
        trits[column::r.m] = add(*shares)
    return bytes(trits)
