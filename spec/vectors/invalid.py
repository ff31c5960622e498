"""What all tables of invalid vectors share: the collector, and the integers at which readers go wrong."""

import struct
from dataclasses import dataclass

from build import PAYLOAD, build

# Where a signed, a 32-bit or a floating-point reader goes wrong.
BOUNDARIES = {"2p31-1": 2**31 - 1, "2p31": 2**31, "2p31+1": 2**31 + 1, "2p32-1": 2**32 - 1, "2p32": 2**32, "2p53": 2**53, "2p63": 2**63, "max": 2**64 - 1}
BOUNDARIES_32 = {"2p31-1": 2**31 - 1, "2p31": 2**31, "2p32-1": 2**32 - 1}


@dataclass(frozen=True)
class Vector:
    name: str
    base: str
    rule: int
    why: str
    data: bytes
    deep: bool
    kind: str


class Table:
    """Collects the vectors that start from `base`, a valid file."""

    def __init__(self, bases, base):
        self.base, self.found = base, []
        self.model, self.image = bases[base]

    def add(self, rule, name, why, made, deep=False, kind="invalid"):
        data = bytes(getattr(made, "data", made))
        self.found.append(Vector(f"r{rule:03}-{name}", self.base, rule, why, data, deep, kind))

    def fields(self, rule, name, why, where, kind="invalid", deep=False, **fields):
        """Set fields of the prefix, a section entry or a record, and make the digests right again."""
        self.add(rule, name, why, self.image.copy().set(where, **fields).seal(), deep, kind)

    def built(self, rule, name, why, deep=False, kind="invalid", **changes):
        """Build a changed model."""
        self.add(rule, name, why, build(self.model.with_(**changes)), deep, kind)

    def resized(self, length):
        """The file cut or extended with zeros to `length`, which becomes the length of PAYLOAD's end too."""
        image = self.image.copy()
        image.data = bytearray(image.data[:length].ljust(length, b"\0"))
        entry = ("entry", PAYLOAD)
        return image.set("prefix", file_bytes=length).set(entry, bytes=length - image.get(entry, "offset"))


def flip(image, at, mask=1):
    """One byte changed, and no digest made right."""
    image = image.copy()
    image.data[at] ^= mask
    return image


def f32(bits):
    return struct.pack("<I", bits)


def vectors(bases):
    # The tables import this module.
    import invalid_header
    import invalid_manifest
    import invalid_packed
    import invalid_payload
    import invalid_records
    for table in (invalid_header, invalid_records, invalid_manifest, invalid_payload, invalid_packed):
        yield from table.vectors(bases)
