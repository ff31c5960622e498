"""Whole-array operations on byte strings with the standard library only: tables, strides, and sums by way of long integers.

They run at the speed of C, so that trits decode fast without numpy and there is one way to decode, not two.
"""


def table(function):
    """A table for `bytes.translate`."""
    return bytes(function(byte) for byte in range(256))


def add(*arrays):
    """Byte by byte sum of arrays of equal length. No sum may exceed 255."""
    total = sum(int.from_bytes(array, "little") for array in arrays)
    return total.to_bytes(len(arrays[0]), "little")


def first(array, bad):
    """The index of the first byte of `array` for which `bad`, a table of 0 and 1, says 1; −1 for none."""
    return array.translate(bad).find(b"\1")


def crop(array, stride, width):
    """The first `width` bytes of every `stride` bytes."""
    if width == stride:
        return array
    return b"".join([array[at:at + width] for at in range(0, len(array), stride)])
