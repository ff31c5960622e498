"""Write the conformance kit: valid/ and invalid.json beside this file. With --check, compare instead, and exit 1 where the files on disk differ.

Everything is made from SPEC.md alone: no code is shared with an implementation that the kit tests, but for BLAKE3.
"""

import json
import pathlib
import re
import sys

import invalid
import valid
from build import CHUNK_ENTRY_BYTES, PACKED_PREFIX_BYTES, TERNARY, build, build_packed
from dump import dump

HERE = pathlib.Path(__file__).resolve().parent
# A rule that no bytes of a file can break would be listed here with the reason.
NOT_A_FILE_RULE = {}


def text(value):
    """JSON with one tensor, section or vector a line, so that a change reads well."""
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        body = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
        return f"{{\n{body}\n}}\n"
    lines = []
    for key, member in value.items():
        if isinstance(member, list) and member:
            member = "[\n  " + ",\n  ".join(json.dumps(m) for m in member) + "\n]"
        else:
            member = json.dumps(member)
        lines.append(f"{json.dumps(key)}: {member}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def expected(model, image):
    """What a reader must find in a valid file."""
    decodable = not image.get("prefix", "inspect_only")
    return {
        "root": image.get("prefix", "root").hex(), "file_bytes": len(image.data), "decodable": decodable,
        "sections": [section(image, kind) for kind in image.sections],
        "tensors": [tensor(image, number, t) for number, t in enumerate(model.tensors)],
        "manifest": model.manifest,
    }


def section(image, kind):
    fields = {name: image.get(("entry", kind), name) for name in ("offset", "bytes", "digest")}
    return {"kind": kind, **fields, "digest": fields["digest"].hex()}


def tensor(image, number, t):
    """Of an unknown encoding or order the number stands in place of the name, and nothing decoded is given."""
    known = not t.fields
    fields = {name: image.get(number, name) for name in ("offset", "stored_bytes", "data_bytes", "scale_count", "non_zero")}
    digests = {name: image.get(number, name).hex() for name in ("stored_digest", "content_digest")}
    names = {"role": t.role, "encoding": t.encoding, "order": t.order} if known else {key: t.fields[key] for key in ("role", "encoding", "order")}
    scales = image.scales(number) if known else b""
    return {
        "name": t.name, **names, "shape": list(t.shape), "nm": f"{t.nm[0]}:{t.nm[1]}" if t.nm[1] else None, **fields, **digests,
        "first_row": t.values[0] if t.encoding in TERNARY else None,
        "scales_head": [bytes(scales[at:at + 4]).hex() for at in range(0, min(8, len(scales)), 4)],
    }


def valid_files():
    """Path → bytes of everything under valid/, and name → Image, or the bytes of a packed file, for the invalid vectors to start from."""
    out, bases = {}, {}
    for name, model in valid.models().items():
        image = build(model)
        bases[name] = (model, image)
        out[f"valid/{name}.sbnc"] = bytes(image.data)
        out[f"valid/{name}.json"] = text(expected(model, image)).encode()
    for name, (model, image, chunks) in valid.packed().items():
        data = build_packed(image.data, chunks)
        bases[name] = (chunks, image.data)
        stored_at = PACKED_PREFIX_BYTES + CHUNK_ENTRY_BYTES * len(chunks)
        packed = {"file_bytes": len(data), "raw_bytes": len(image.data), "chunks": [[codec, len(stored)] for codec, stored in chunks], "first_chunk": stored_at}
        out[f"valid/{name}.sbncz"] = data
        out[f"valid/{name}.json"] = text({"packed": packed, **expected(model, image)}).encode()
    out["valid/worked.txt"] = dump(*bases["worked"]).encode()
    return out, bases


def difference(base, made):
    """Edits, truncation and appendix that turn `base` into `made`; differences fewer than 8 bytes apart share an edit."""
    common, edits, at = min(len(base), len(made)), [], 0
    while at < common:
        if base[at:at + 4096] == made[at:at + 4096][:common - at]:
            at += 4096
            continue
        if base[at] == made[at]:
            at += 1
            continue
        end = at + 1
        while end < common and base[end:end + 8] != made[end:end + 8]:
            end += 1
        end = min(end, common)
        edits.append([at, made[at:end].hex()])
        at = end
    return {"edits": edits, "truncate": len(made) if len(made) < len(base) else None, "append": made[common:].hex() or None}


def apply(base, vector):
    """What a consumer does with a vector."""
    made = bytearray(base)
    for at, new in vector["edits"]:
        made[at:at + len(new) // 2] = bytes.fromhex(new)
    return bytes(made[:vector["truncate"]]) + bytes.fromhex(vector["append"] or "")


def invalid_file(files, bases):
    vectors, seen = {}, {}
    for v in invalid.vectors(bases):
        path = f"valid/{v.base}." + ("sbncz" if v.base.startswith("packed") else "sbnc")
        change = difference(files[path], v.data)
        assert apply(files[path], change) == v.data, v.name
        assert v.name not in vectors, v.name
        assert v.data != files[path], f"{v.name} is its base"
        # The same bytes may be refused twice: as a file, and as a packed file.
        same = seen.setdefault((pathlib.Path(path).suffix, v.data), v.name)
        assert same == v.name, f"{v.name} and {same} are the same bytes"
        vectors[v.name] = {"base": path, **change, "rule": f"SBNC-R{v.rule:03}", "deep": v.deep, "kind": v.kind, "why": v.why}
    rules = set(re.findall(r"SBNC-R\d{3}", (HERE.parent / "SPEC.md").read_text(encoding="utf-8")))
    used = {v["rule"] for v in vectors.values()}
    assert used <= rules, sorted(used - rules)
    missing = rules - used - set(NOT_A_FILE_RULE)
    assert not missing, f"rules without a vector: {sorted(missing)}"
    return text(vectors).encode()


def main():
    files, bases = valid_files()
    files["invalid.json"] = invalid_file(files, bases)
    if "--check" not in sys.argv:
        (HERE / "valid").mkdir(exist_ok=True)
        for path, data in files.items():
            (HERE / path).write_bytes(data)
        return 0
    on_disk = {f"valid/{p.name}" for p in (HERE / "valid").iterdir()} | {"invalid.json"}
    stale = [path for path in sorted(on_disk | set(files)) if path not in files or not (HERE / path).is_file() or (HERE / path).read_bytes() != files[path]]
    for path in stale:
        print(f"differs from what the generator writes: {path}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
