"""Files with a fault in the prefix or the section table: SPEC.md §3 and §4."""

from build import ENTRY_BYTES, FILES, KINDS, MANIFEST, NAMES, PACKED_MAGIC, PAYLOAD, PREFIX_BYTES, TENSORS, blake3, build
from invalid import BOUNDARIES, BOUNDARIES_32, Table, flip

REQUIRED = [kind for kind in KINDS if kind != FILES]


def vectors(bases):
    worked, files, unknown = (Table(bases, name) for name in ("worked", "files", "section-unknown"))
    prefix(worked)
    length(worked)
    features(worked)
    kinds(worked, files, unknown)
    places(worked)
    padding_and_digests(worked, files, unknown)
    return worked.found + files.found + unknown.found


def prefix(t):
    data = bytes(t.image.data)
    for n in (0, 1, 8, 95):
        t.add(1, f"length-{n}", f"{n} bytes are fewer than a prefix", data[:n])
    magics = {
        "bit-7": ("53424e430d0a1a0a", "bit 7 was cleared"), "crlf-to-lf": ("d3424e430a1a0a01", "CR LF became LF, and the bytes behind moved up"),
        "lf-to-crlf": ("d3424e430d0d0a1a", "LF became CR LF, and the bytes behind moved down"), "packed": (PACKED_MAGIC.hex(), "this is the magic of a packed file"),
        "zero": ("00" * 8, "it is zero"), "last-byte": ("d3424e430d0a1a0d", "the last byte is not LF"), "gguf": ("4747554603000000", "it is that of another format"),
    }
    for name, (magic, why) in magics.items():
        t.add(2, f"magic-{name}", f"the magic is wrong: {why}", t.image.copy().set("prefix", magic=bytes.fromhex(magic)).seal())
    for major in (0, 2, 256, 65535):
        t.fields(3, f"major-{major}", f"major is {major}, not 1", "prefix", major=major, kind="unsupported")
    for name, count in {"0": 0, "65": 65, **BOUNDARIES_32}.items():
        image = t.image.copy().set("prefix", section_count=count, header_bytes=(PREFIX_BYTES + ENTRY_BYTES * count) % 2**32)
        t.add(4, f"sections-{name}", f"section_count is {count}, outside 1 to 64", image.seal())
    right = t.image.get("prefix", "header_bytes")
    for name, value in {"0": 0, "95": 95, "96": 96, "minus-64": right - 64, "plus-1": right + 1, "plus-64": right + 64, **BOUNDARIES_32}.items():
        t.fields(5, f"header-bytes-{name}", f"header_bytes is {value}, not 96 + 64 * 4", "prefix", header_bytes=value)


def length(t):
    data, right = bytes(t.image.data), len(t.image.data)
    for name, value in {"0": 0, "minus-1": right - 1, "plus-1": right + 1, "2p42+1": 2**42 + 1, **BOUNDARIES}.items():
        t.fields(6, f"file-bytes-{name}", f"file_bytes is {value}, the file has {right} bytes", "prefix", file_bytes=value)
    for n in (96, 160, 351, 352, 4096, 12400, 16384, right - 1):
        t.add(6, f"cut-{n}", f"the file is cut to {n} bytes", data[:n])
    t.add(6, "trailing-zero", "one zero byte follows the file", data + b"\0")
    t.add(6, "trailing-byte", "one byte follows the file", data + b"\xff")
    for n in (96, 351):
        t.add(6, f"header-past-end-{n}", f"the file and file_bytes are {n}, fewer than header_bytes", t.image.copy().set("prefix", file_bytes=n).data[:n])


def features(t):
    at = {"minor": 10, "compatible": 24, "inspect-only": 32, "incompatible": 40, "reserved": 52, "root-first": 64, "root-last": 95,
          "entry-kind": 96, "entry-offset": 105, "entry-digest": 128, "last-entry": 351}
    for name, byte in at.items():
        t.add(7, f"root-{name}", f"byte {byte} of the header is changed and root is not", flip(t.image, byte), kind="integrity")
    t.add(7, "root-zero", "root is zero", t.image.copy().set("prefix", root=bytes(32)), kind="integrity")
    whole = blake3(t.image.data[:t.image.get("prefix", "header_bytes")])
    t.add(7, "root-over-itself", "root was computed without its own bytes taken as zero", t.image.copy().set("prefix", root=whole), kind="integrity")
    for name, fields in {"1": {"reserved": 1}, "2p31": {"reserved": 2**31}, "u64-1": {"reserved2": 1}, "u64-2p63": {"reserved2": 2**63}}.items():
        t.fields(8, f"reserved-{name}", "a reserved field of the prefix is not zero", "prefix", **fields)
    for bit in (0, 1, 31, 32, 63):
        t.fields(9, f"incompatible-{bit}", f"incompatible bit {bit} is unknown", "prefix", incompatible=1 << bit, kind="unsupported")
    for bit in (0, 31, 32, 63):
        why = f"inspect_only bit {bit} is unknown: the file may be listed and its digests checked, decoding must be refused"
        t.fields(10, f"inspect-only-{bit}", why, "prefix", inspect_only=1 << bit, kind="unsupported", deep=True)


def kinds(t, files, unknown):
    order = {"names-first": (NAMES, TENSORS, MANIFEST, PAYLOAD), "payload-first": (PAYLOAD, TENSORS, NAMES, MANIFEST), "swapped-last": (TENSORS, NAMES, PAYLOAD, MANIFEST)}
    for name, kinds in order.items():
        t.built(20, f"kinds-{name}", "the sections are in another order than that of their kinds", kinds=kinds)
    files.built(20, "kinds-files-swapped", "FILES comes before MANIFEST", kinds=(TENSORS, NAMES, FILES, MANIFEST, PAYLOAD))
    unknown.add(20, "kind-twice", "kind 17 occurs twice",
                build(unknown.model.with_(extra=[(17, 0, b"later"), (18, 0, b"again")])).set(("entry", 18), kind=17).seal_root())
    t.add(20, "kind-tensors-twice", "kind TENSORS occurs twice, and NAMES is missing", t.image.copy().set(("entry", NAMES), kind=TENSORS).seal_root())
    for kind in REQUIRED:
        t.fields(21, f"optional-{KINDS[kind].lower()}", f"{KINDS[kind]} is not marked REQUIRED", ("entry", kind), flags=0)
    files.fields(21, "required-files", "FILES is marked REQUIRED", ("entry", FILES), flags=1)
    for name, flags in {"bit-1": 3, "bit-31": 2**31 + 1, "all": 2**32 - 1}.items():
        t.fields(21, f"flags-{name}", "flags has a bit other than REQUIRED", ("entry", TENSORS), flags=flags)
    unknown.fields(21, "flags-unknown", "an optional section of unknown kind has flag bit 1", ("entry", 17), flags=2)
    for kind in (17, 2**32 - 1):
        unknown.fields(22, f"unknown-{kind}", f"a section of the unknown kind {kind} is REQUIRED", ("entry", kind), flags=1, kind="unsupported")
    unknown.built(22, "unknown-0", "a section of the unknown kind 0 is REQUIRED", extra=[(0, 1, b"zero")], kind="unsupported")
    for kind in REQUIRED:
        t.built(23, f"without-{KINDS[kind].lower()}", f"{KINDS[kind]} is missing", omit=(kind,))
    t.built(23, "one-unknown-section", "there is but one section, of unknown kind", omit=tuple(REQUIRED), extra=[(17, 0, b"later")])
    unknown.built(24, "empty-unknown", "a section of unknown kind is empty", extra=[(17, 0, b"")])
    t.built(24, "empty-names", "NAMES is empty", names=b"")
    t.built(24, "empty-manifest", "MANIFEST is empty", manifest=b"")
    t.built(24, "empty-tensors", "TENSORS is empty", records=lambda table: b"")
    t.built(24, "empty-files", "FILES is empty", files=[b""])
    t.fields(24, "empty-payload", "PAYLOAD is empty", ("entry", PAYLOAD), bytes=0)


def places(t):
    first = {"0": 0, "352": 352, "4095": 4095, "4097": 4097, "8192": 8192, **BOUNDARIES}
    for name, value in first.items():
        t.fields(25, f"first-offset-{name}", f"the first section is said to begin at {value}, not 4096", ("entry", TENSORS), offset=value)
    second = {"overlap": 4096, "same-page": 4416, "minus-1": 8191, "plus-1": 8193, "plus-256": 8448, "gap": 12288, "top-page": 2**64 - 4096}
    for name, value in second.items():
        t.fields(25, f"second-offset-{name}", f"NAMES is said to begin at {value}, not 8192", ("entry", NAMES), offset=value)
    for name, value in {"into-next": 4097, "2p32-1": 2**32 - 1, "2p63": 2**63, "wraps-to-4096": 2**64 - 4096, "max": 2**64 - 1}.items():
        t.fields(25, f"tensors-bytes-{name}", f"TENSORS is said to have {value} bytes, so NAMES begins too early", ("entry", TENSORS), bytes=value)
    at = t.image.get(("entry", PAYLOAD), "offset")
    image = t.image.copy().set(("entry", PAYLOAD), offset=at + 4096).set("prefix", file_bytes=len(t.image.data) + 4096).seal()
    image.data[at:at] = bytes(4096)
    t.add(25, "page-between", "a page of zeros stands between MANIFEST and PAYLOAD", image)
    right = t.image.get(("entry", PAYLOAD), "bytes")
    for name, value in {"1": 1, "minus-1": right - 1, "plus-1": right + 1, "wraps-to-0": 2**64 - 16384, **BOUNDARIES}.items():
        t.fields(26, f"payload-bytes-{name}", f"PAYLOAD is said to have {value} bytes, so it does not end where the file does", ("entry", PAYLOAD), bytes=value)
    longer = t.image.copy().set("prefix", file_bytes=len(t.image.data) + 1).seal()
    t.add(26, "byte-behind", "a byte that file_bytes counts follows the last section", longer.data + b"\0")


def padding_and_digests(t, files, unknown):
    for kind, value in ((TENSORS, 1), (NAMES, 2**31), (PAYLOAD, 2**63)):
        t.fields(27, f"entry-reserved-{KINDS[kind].lower()}", f"the reserved field of the entry of {KINDS[kind]} is {value}", ("entry", kind), reserved=value)
    gaps = {"after-header": 352, "before-tensors": 4095, "after-tensors": 4416, "before-manifest": 12287, "before-payload": 16383}
    for name, at in gaps.items():
        t.add(28, f"padding-{name}", f"the padding byte at {at} is not zero", flip(t.image, at, 0x80))
    _, at, size = unknown.image.sections[17]
    unknown.add(28, "padding-after-unknown", "the byte after a section of unknown kind is not zero", flip(unknown.image, at + size))
    tables = [(t, TENSORS), (t, NAMES), (t, MANIFEST), (files, FILES), (unknown, 17)]
    for table, kind in tables:
        name, entry = KINDS.get(kind, "unknown").lower(), ("entry", kind)
        digest = bytearray(table.image.get(entry, "digest"))
        digest[31] ^= 1
        table.add(29, f"digest-{name}", f"the section's digest is wrong ({name})", table.image.copy().set(entry, digest=bytes(digest)).seal_root(), kind="integrity")
    at = t.image.place(0, "content_digest")[0]
    t.add(29, "byte-tensors", "a byte of TENSORS is changed and its digest is not", flip(t.image, at), kind="integrity")
    t.add(29, "byte-names", "a byte of NAMES is changed and its digest is not", flip(t.image, t.image.sections[NAMES][1]), kind="integrity")
    at, size = t.image.sections[PAYLOAD][1:]
    for name, digest in {"right": blake3(t.image.data[at:at + size]), "one-bit": bytes(31) + b"\1"}.items():
        t.add(29, f"digest-payload-{name}", "the digest of PAYLOAD is not zero", t.image.copy().set(("entry", PAYLOAD), digest=digest).seal_root(), kind="integrity")
