"""BLAKE3 with 32 bytes of output, no key and no context: the only digest of an sbnc file.

The input is cut into chunks of 1024 bytes; each gives a chaining value, and these are merged pairwise, level by level (an odd one out moves up
unchanged), until one is left. The last compression carries ROOT. With numpy, chunks and pairs are compressed side by side in vectors; without it, one
by one. Both paths give the same digest, and `test_reader.py` compares them.
"""

import struct

try:
    import numpy
except ImportError:
    numpy = None

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK, BLOCK = 1024, 64
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF
# Below this many chunks the fixed cost of a numpy call outweighs what it saves; above the batch, vectors no longer fit the cache.
FEWEST_CHUNKS, BATCH_CHUNKS = 8, 4096


def schedule():
    """The order in which each of the seven rounds takes the 16 message words."""
    rounds = [tuple(range(16))]
    while len(rounds) < 7:
        rounds.append(tuple(rounds[-1][i] for i in PERMUTATION))
    return rounds


SCHEDULE = schedule()
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def blake3(data, vectorise=True):
    """The digest of `data`, any bytes-like object."""
    data = memoryview(data).cast("B")
    whole = len(data) // CHUNK
    cvs = []
    if numpy is not None and vectorise and whole >= FEWEST_CHUNKS:
        # The last chunk, whole or not, is left to the scalar path: a file of one chunk needs ROOT there.
        side_by_side = whole if len(data) % CHUNK else whole - 1
        levels = [chunk_cvs(data, at, min(BATCH_CHUNKS, side_by_side - at)) for at in range(0, side_by_side, BATCH_CHUNKS)]
        last = chunk_cv(data[side_by_side * CHUNK:], side_by_side, 0)
        return merge_vectors(numpy.concatenate(levels + [numpy.array(last, "<u4").reshape(8, 1)], axis=1))
    count = max(1, -(-len(data) // CHUNK))
    for index in range(count):
        cvs.append(chunk_cv(data[index * CHUNK:(index + 1) * CHUNK], index, ROOT if count == 1 else 0))
    return merge(cvs)


def merge(cvs):
    while len(cvs) > 1:
        flags = PARENT | (ROOT if len(cvs) == 2 else 0)
        pairs = [compress(IV, cvs[i] + cvs[i + 1], 0, BLOCK, flags) for i in range(0, len(cvs) - 1, 2)]
        cvs = pairs + cvs[len(pairs) * 2:]
    return struct.pack("<8I", *cvs[0])


def chunk_cv(chunk, index, root):
    cv = IV
    blocks = max(1, -(-len(chunk) // BLOCK))
    for number in range(blocks):
        block = bytes(chunk[number * BLOCK:(number + 1) * BLOCK])
        flags = (CHUNK_START if number == 0 else 0) | (CHUNK_END | root if number == blocks - 1 else 0)
        cv = compress(cv, struct.unpack("<16I", block.ljust(BLOCK, b"\0")), index, len(block), flags)
    return cv


def compress(cv, words, counter, length, flags):
    v = [*cv, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for order in SCHEDULE:
        for (a, b, c, d), k in zip(MIXES, range(0, 16, 2)):
            va, vb, vc = v[a], v[b], v[c]
            va = (va + vb + words[order[k]]) & MASK
            x = v[d] ^ va
            x = (x >> 16 | x << 16) & MASK
            vc = (vc + x) & MASK
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & MASK
            va = (va + vb + words[order[k + 1]]) & MASK
            x ^= va
            x = (x >> 8 | x << 24) & MASK
            vc = (vc + x) & MASK
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 7 | vb << 25) & MASK, vc, x
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def chunk_cvs(data, first, count):
    """Chaining values, (8, count), of `count` whole chunks from chunk `first` on."""
    words = numpy.frombuffer(data[first * CHUNK:(first + count) * CHUNK], "<u4").reshape(count, 16, 16)
    counter = numpy.arange(first, first + count, dtype=numpy.uint64)
    cv = numpy.repeat(numpy.array(IV, numpy.uint32)[:, None], count, axis=1)
    for number in range(16):
        flags = (CHUNK_START if number == 0 else 0) | (CHUNK_END if number == 15 else 0)
        cv = compress_vectors(cv, numpy.ascontiguousarray(words[:, number].T, dtype=numpy.uint32), counter, flags)
    return cv


def merge_vectors(cvs):
    while cvs.shape[1] > FEWEST_CHUNKS:
        pairs = cvs.shape[1] // 2
        words = numpy.concatenate((cvs[:, 0:2 * pairs:2], cvs[:, 1:2 * pairs:2]))
        cv = numpy.repeat(numpy.array(IV, numpy.uint32)[:, None], pairs, axis=1)
        cvs = numpy.concatenate((compress_vectors(cv, words, numpy.zeros(pairs, numpy.uint64), PARENT), cvs[:, 2 * pairs:]), axis=1)
    return merge([tuple(int(word) for word in column) for column in cvs.T])


def compress_vectors(cv, words, counter, flags):
    """`compress` for every column of cv (8, n) and words (16, n). The state is four rows of (4, n), so that one operation does four mixes."""
    n = cv.shape[1]
    a, b = cv[:4].copy(), cv[4:].copy()
    c = numpy.repeat(numpy.array(IV[:4], numpy.uint32)[:, None], n, axis=1)
    d = numpy.empty((4, n), numpy.uint32)
    d[0], d[1], d[2], d[3] = counter & MASK, counter >> 32, BLOCK, flags
    spare = numpy.empty_like(a)

    def rotate(x, right):
        numpy.right_shift(x, right, out=spare)
        numpy.left_shift(x, 32 - right, out=x)
        numpy.bitwise_or(x, spare, out=x)

    def mix(first, second):
        for m, right_d, right_b in ((first, 16, 12), (second, 8, 7)):
            numpy.add(a, b, out=a)
            numpy.add(a, words[m], out=a)
            numpy.bitwise_xor(d, a, out=d)
            rotate(d, right_d)
            numpy.add(c, d, out=c)
            numpy.bitwise_xor(b, c, out=b)
            rotate(b, right_b)

    for order in SCHEDULE:
        mix(list(order[0:8:2]), list(order[1:8:2]))
        b, c, d = b[[1, 2, 3, 0]], c[[2, 3, 0, 1]], d[[3, 0, 1, 2]]
        mix(list(order[8::2]), list(order[9::2]))
        b, c, d = b[[3, 0, 1, 2]], c[[2, 3, 0, 1]], d[[1, 2, 3, 0]]
    return numpy.concatenate((a ^ c, b ^ d))
