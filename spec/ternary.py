"""The ternary encodings in rows order (§10.1 to §10.3): validate the stored bytes, then decode them to trits.

Trits are bytes, row-major: 0, 1 and 255 for −1. `validate` refuses with R080 to R090, `decode` may rely on it.
"""

import fragments
from bytewise import add, crop, first, table
from refusal import refuse

TRIT_OF_DIGIT = (255, 0, 1)

T2_TRITS = [table(lambda b, i=i: (255, 0, 1, 0)[b >> 2 * i & 3]) for i in range(4)]
T2_BAD = table(lambda b: any(b >> 2 * i & 3 == 3 for i in range(4)))
T5_TRITS = [table(lambda b, i=i: TRIT_OF_DIGIT[b // 3**i % 3]) for i in range(5)]
T5_BAD = table(lambda b: b > 242)


def nm_groups():
    """The 33 groups of four trits in the order of their codes (§10.3)."""
    groups = [[0, 0, 0, 0]]
    for p in range(4):
        for sign in (1, 255):
            groups.append([sign if k == p else 0 for k in range(4)])
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        for second in (1, 255):
            for one in (1, 255):
                groups.append([one if k == i else second if k == j else 0 for k in range(4)])
    return groups


NM_GROUPS = nm_groups()
NM_TRITS = [table(lambda c, i=i: NM_GROUPS[c][i] if c < len(NM_GROUPS) else 0) for i in range(4)]


def validate(r, data):
    """Refuses `data`, the data bytes of record `r`, unless they are the encoding of a matrix."""
    {"t2": validate_t2, "t5": validate_t5, "nm-6b": validate_nm_6b, "nm-vi": fragments.validate}[r.encoding](r, data)


def decode(r, data):
    """The rows · cols trits of valid `data`."""
    return {"t2": decode_t2, "t5": decode_t5, "nm-6b": decode_nm_6b, "nm-vi": fragments.decode}[r.encoding](r, data)


def validate_t2(r, data):
    at = first(data, T2_BAD)
    if at >= 0:
        refuse("R080", r.where, "codes 0 to 2", f"code 3 in byte {at}, {data[at]:#04x}")
    width, used = -(-r.cols // 4), r.cols % 4
    if used:
        check_last_bytes("R081", r, data[width - 1::width], table(lambda b: b >> 2 * used != 0x55 >> 2 * used), "code 1")


def validate_t5(r, data):
    at = first(data, T5_BAD)
    if at >= 0:
        refuse("R082", r.where, "bytes of at most 242", f"{data[at]} in byte {at}")
    width, used = -(-r.cols // 5), r.cols % 5
    if used:
        check_last_bytes("R083", r, data[width - 1::width], table(lambda b: b // 3**used != 121 // 3**used), "digit 1")


def check_last_bytes(rule, r, last, bad, expected):
    row = first(last, bad)
    if row >= 0:
        refuse(rule, r.where, f"{expected} beyond column {r.cols - 1}", f"last byte {last[row]:#04x} of row {row}")


def decode_t2(r, data):
    return interleave(data, T2_TRITS, -(-r.cols // 4) * 4, r.cols)


def decode_t5(r, data):
    return interleave(data, T5_TRITS, -(-r.cols // 5) * 5, r.cols)


def interleave(codes, tables, padded_cols, cols):
    trits = bytearray(len(codes) * len(tables))
    for i, trit in enumerate(tables):
        trits[i::len(tables)] = codes.translate(trit)
    return crop(bytes(trits), padded_cols, cols)


def nm_6b_codes(r, data):
    """One byte a code, and for each row as many as fill three-byte units; those beyond the last group are 0 when R085 holds."""
    width, groups = -(-(6 * (r.cols // 4)) // 8), r.cols // 4
    spare = -width % 3
    if spare:
        data = b"".join([data[at:at + width] + bytes(spare) for at in range(0, len(data), width)])
    b0, b1, b2 = data[0::3], data[1::3], data[2::3]
    codes = bytearray(len(b0) * 4)
    codes[0::4] = b0.translate(table(lambda b: b & 63))
    codes[1::4] = add(b0.translate(table(lambda b: b >> 6)), b1.translate(table(lambda b: (b & 15) << 2)))
    codes[2::4] = add(b1.translate(table(lambda b: b >> 4)), b2.translate(table(lambda b: (b & 3) << 4)))
    codes[3::4] = b2.translate(table(lambda b: b >> 2))
    padded = (width + spare) // 3 * 4
    return bytes(codes), padded, groups


def validate_nm_6b(r, data):
    codes, padded, groups = nm_6b_codes(r, data)
    most = 8 if r.n == 1 else 32
    kept = crop(codes, padded, groups)
    at = first(kept, table(lambda c: c > most))
    if at >= 0:
        refuse("R084", r.where, f"codes 0 to {most}", f"{kept[at]} at group {at % groups} of row {at // groups}")
    width, used = -(-(6 * groups) // 8), 6 * groups % 8
    if used:
        check_last_bytes("R085", r, data[width - 1::width], table(lambda b: b >> used != 0), "zero bits")


def decode_nm_6b(r, data):
    codes, padded, groups = nm_6b_codes(r, data)
    return interleave(crop(codes, padded, groups), NM_TRITS, r.cols, r.cols)


def first_dense_group(trits, n, m):
    """The index of the first group of m trits with more than n non-zeros; −1 for none. Rows are multiples of m."""
    non_zero = trits.translate(table(lambda t: t != 0))
    counts = add(*(non_zero[i::m] for i in range(m)))
    return first(counts, table(lambda count: count > n))
