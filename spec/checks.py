"""The rules of SPEC.md put in order: what opening, verifying, decoding and unpacking check. No terminal, no file names."""

import canonical_json
import packed
import payload
import zstd_frame
from blake3 import blake3
from layout import FILES, MANIFEST, NAMES, PAYLOAD, TENSORS, check_zero, read_prefix, read_sections
from manifest import check_entries, check_manifest
from records import read_records
from refusal import Refusal, compare_digest, refuse


class SbncFile:
    """An opened file: §3 to §6 hold; after `read_manifest` also §7 and §8 but R070."""

    def __init__(self, data, decoding=False):
        self.data = memoryview(data)
        self.prefix = read_prefix(self.data, decoding)
        self.sections = read_sections(self.data, self.prefix)
        self.records = read_records(self.section(TENSORS), bytes(self.section(NAMES)), len(self.section(PAYLOAD)), self.inspect_only)
        self.manifest = None

    @property
    def inspect_only(self):
        return self.prefix.inspect_only != 0

    def section(self, kind):
        s = self.sections.get(kind)
        return self.data[s.offset:s.end] if s else self.data[:0]

    def extent(self, r):
        return self.section(PAYLOAD)[r.offset:r.end]

    def read_manifest(self):
        section = self.section(MANIFEST)
        if len(section) > canonical_json.MAX_MANIFEST_BYTES:
            refuse("R063", canonical_json.WHERE, f"at most {canonical_json.MAX_MANIFEST_BYTES} bytes", len(section))
        manifest = canonical_json.parse(bytes(section))
        check_manifest(manifest)
        check_entries(manifest["files"], len(self.section(FILES)))
        self.manifest = manifest
        return self


def open_file(data, decoding=False):
    """Everything that is checked before FILES and PAYLOAD are looked into: §3 to §8 but R070."""
    return SbncFile(data, decoding).read_manifest()


def verify(data, deep=False, note=lambda text: None):
    """Checks a whole file, and with `deep` also decodes it. `note` is told what could not be checked."""
    return verify_contents(open_file(data, decoding=deep), deep, note)


def verify_contents(f, deep, note):
    at = 0
    for entry in f.manifest["files"]:
        check_file(entry, f.section(FILES)[at:at + entry["stored"]], note)
        at += entry["stored"]
    end = 0
    for r in f.records:
        check_zero("R071", f"padding before {r.where}", f.section(PAYLOAD)[end:r.offset])
        end = r.end
        payload.check_extent(r, f.extent(r))
        if not f.inspect_only:
            payload.check_encoding(r, f.extent(r))
        if deep:
            payload.decode(r, f.extent(r))
    return f


def check_file(entry, stored, note):
    """R070."""
    where = f"file '{entry['name']}'"
    content = bytes(stored) if entry["codec"] == "raw" else zstd_frame.decode(stored, entry["raw"], "R070", where)
    if content is None:
        note(f"{where}: its compressed blocks and its digest, for want of a zstd module")
    else:
        compare_digest("R070", where, bytes.fromhex(entry["blake3"]), blake3(content))


def decode_tensor(f, name):
    """A tensor's record, decoded data and scales; None where there is no such tensor."""
    for r in f.records:
        if r.name == name:
            payload.check_extent(r, f.extent(r))
            payload.check_encoding(r, f.extent(r))
            return r, payload.decode(r, f.extent(r)), payload.scales(r, f.extent(r))
    return None


def open_unpacked(data, prefix, decoding=False):
    """R106: `data` is what the packed file of `prefix` unpacks to. A fault beyond §6 keeps its own rule."""
    try:
        f = SbncFile(data, decoding)
    except Refusal as inner:
        raise Refusal("R106", "unpacked file", "a valid file", str(inner), inner.kind) from inner
    compare_digest("R106", "unpacked file", prefix.root, f.prefix.root)
    return f


def unpack(data, write):
    """Checks §11 but R106 and writes the unpacked file. Returns the packed prefix and the chunks that could not be decoded here."""
    data = memoryview(data)
    prefix, chunks = packed.read_packed(data)
    undecoded = []
    for chunk, content in zip(chunks, packed.unpack_chunks(data, chunks)):
        if content is None:
            undecoded.append(chunk)
        elif not undecoded:
            write(content)
    return prefix, undecoded
