"""zstd frames (RFC 8878) of carried files and packed chunks (R070, R105).

The walk over frame and block headers is done here, so that the declared size, the dictionary and the end of the frame are known before a byte is
decoded. Raw and RLE blocks decode here too; compressed blocks need `compression.zstd` or `zstandard`, and without either they stay unchecked.
"""

import struct

from refusal import refuse

try:
    from compression import zstd as module  # Python 3.14
except ImportError:
    try:
        import zstandard as module
    except ImportError:
        module = None

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_BLOCK = 128 * 1024
RAW, RLE, COMPRESSED = 0, 1, 2
MASK = 2**64 - 1
PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def decode(data, size, rule, where):
    """The `size` bytes that the one frame in `data` holds, or None where its compressed blocks cannot be decoded here."""
    def need(holds, expected, found):
        if not holds:
            refuse(rule, where, expected, found)

    data = bytes(data)
    need(data[:4] == FRAME_MAGIC, "the magic of a zstd frame", data[:4].hex() or "nothing")
    need(len(data) >= 6, "a whole frame header", f"{len(data)} bytes")
    descriptor = data[4]
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    need(not descriptor & 8, "the reserved bit of the frame header 0", 1)
    id_bytes = (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - single)
    need(len(data) >= at + id_bytes + size_bytes, "a whole frame header", f"{len(data)} bytes")
    dictionary = int.from_bytes(data[at:at + id_bytes], "little")
    need(dictionary == 0, "no dictionary", dictionary)
    at += id_bytes
    need(size_bytes, "a declared content size", "none")
    declared = int.from_bytes(data[at:at + size_bytes], "little") + (256 if size_bytes == 2 else 0)
    need(declared == size, f"declared content size {size}", declared)
    at += size_bytes
    window = declared if single else (1 << 10 + (data[5] >> 3)) // 8 * (8 + (data[5] & 7))

    # `most` bounds what the blocks can decode to, `least` what they must. The content is gathered until a compressed block turns up.
    content, most, least, last, largest = bytearray(), 0, 0, 0, min(window, MAX_BLOCK)
    while not last:
        need(at + 3 <= len(data), "a block header", f"the end, at byte {at}")
        header = int.from_bytes(data[at:at + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        need(kind <= COMPRESSED, "a block type 0 to 2", kind)
        need(length <= largest, f"a block of at most {largest} bytes", length)
        stored = 1 if kind == RLE else length
        need(at + 3 + stored <= len(data), "a whole block", f"the end, in the block at byte {at}")
        most += largest if kind == COMPRESSED else length
        least += 0 if kind == COMPRESSED else length
        need(least <= size, f"blocks of {size} bytes in all", f"at least {least}")
        if kind == COMPRESSED:
            content = None
        elif content is not None:
            content += data[at + 3:at + 4] * length if kind == RLE else data[at + 3:at + 3 + length]
        at += 3 + stored
    need(at + 4 * checksum == len(data), f"one frame that ends at byte {len(data)}", at + 4 * checksum)
    need(most >= size, f"blocks of {size} bytes in all", f"at most {most}")

    if content is None:
        if module is None:
            return None
        content = decode_with_module(data, size, need)
        need(len(content) == size, f"{size} bytes of content", len(content))
        return content
    if checksum:
        found = xxh64(content) & 0xFFFFFFFF
        need(found == int.from_bytes(data[at:], "little"), f"content of checksum {data[at:].hex()}", struct.pack("<I", found).hex())
    return bytes(content)


def decode_with_module(data, size, need):
    try:
        if hasattr(module, "ZstdDecompressor") and module.__name__ == "zstandard":
            return module.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
        return module.decompress(data)
    except MemoryError:
        raise
    except Exception as error:  # the two modules have no common error type
        need(False, "a frame that decodes", str(error)[:200])


def xxh64(data):
    """The frame's checksum is the low half of XXH64 of the content, seed 0."""
    p1, p2, p3, p4, p5 = PRIMES

    def rotate(x, left):
        return (x << left | x >> 64 - left) & MASK

    def round_(lane, word):
        return rotate((lane + word * p2) & MASK, 31) * p1 & MASK

    whole = len(data) // 32 * 32
    h = p5
    if whole:
        lanes = [(p1 + p2) & MASK, p2, 0, -p1 & MASK]
        for words in struct.iter_unpack("<4Q", data[:whole]):
            lanes = [round_(lane, word) for lane, word in zip(lanes, words)]
        h = sum(rotate(lane, left) for lane, left in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            h = ((h ^ round_(0, lane)) * p1 + p4) & MASK
    h = (h + len(data)) & MASK
    tail = data[whole:]
    while len(tail) >= 8:
        h = (rotate(h ^ round_(0, int.from_bytes(tail[:8], "little")), 27) * p1 + p4) & MASK
        tail = tail[8:]
    if len(tail) >= 4:
        h = (rotate(h ^ int.from_bytes(tail[:4], "little") * p1 & MASK, 23) * p2 + p3) & MASK
        tail = tail[4:]
    for byte in tail:
        h = rotate(h ^ byte * p5 & MASK, 11) * p1 & MASK
    h = (h ^ h >> 33) * p2 & MASK
    h = (h ^ h >> 29) * p3 & MASK
    return h ^ h >> 32
