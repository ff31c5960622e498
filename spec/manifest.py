"""What the manifest must hold (R066) and the list of carried files (R067 to R069)."""

import math
import re

from canonical_json import WHERE
from refusal import quote, refuse

MAX_FILES = 64
MAX_FILE_RAW_BYTES = 268435456
MAX_MODEL_NUMBER = 2**24
MAX_LAYERS = MAX_HEADS = 1024
FAMILIES = ("bitnet", "llama", "mistral", "qwen2", "qwen3", "sparse-bitnet")

DIGEST = re.compile("[0-9a-f]{64}")
FILE_NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]{0,255}")
REAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def is_integer(value):
    return type(value) is int


def is_digest(value):
    return type(value) is str and DIGEST.fullmatch(value) is not None


def is_positive_real(value):
    return type(value) is str and REAL.fullmatch(value) is not None and 0 < float(value) < math.inf


def are(kind):
    return lambda value: type(value) is dict and all(kind(item) for item in value.values())


def one_of(*choices):
    return lambda value: type(value) in (str, int) and value in choices


def within(low, high):
    return lambda value: is_integer(value) and low <= value <= high


def is_string(value):
    return type(value) is str


def is_boolean(value):
    return type(value) is bool


def is_array(value):
    return type(value) is list


def is_object(value):
    return type(value) is dict


def is_source(value):
    return (is_object(value) and is_string(value.get("name")) and is_integer(value.get("bytes")) and value["bytes"] >= 0
            and is_digest(value.get("blake3")))


# (member, required, test, what it must be)
TOP = (
    ("files", True, is_array, "an array"),
    ("provenance", True, is_object, "an object"),
    ("model", False, is_object, "an object"),
)
PROVENANCE = (
    ("compiler", True, is_string, "a string"),
    ("sources", True, lambda v: is_array(v) and all(map(is_source, v)), "an array of objects with name, bytes and blake3"),
    ("kind", True, is_string, "a string"),
    ("options", True, are(is_string), "an object of strings"),
    ("rules", True, are(is_string), "an object of strings"),
)
COUNT = (within(1, MAX_MODEL_NUMBER), f"an integer from 1 to {MAX_MODEL_NUMBER}")
MODEL = (
    # A family that this reader does not know is unsupported where the model is run; the file is valid.
    ("family", True, is_string, "a string"),
    ("layers", True, within(1, MAX_LAYERS), f"an integer from 1 to {MAX_LAYERS}"),
    *((member, True, *COUNT) for member in ("hidden", "intermediate")),
    ("heads", True, within(1, MAX_HEADS), f"an integer from 1 to {MAX_HEADS}"),
    *((member, True, *COUNT) for member in ("kv_heads", "head_dim", "vocab", "context")),
    ("activation", True, one_of("silu", "relu2", "gelu"), "silu, relu2 or gelu"),
    ("activation_bits", True, lambda v: is_integer(v) and v in (4, 8), "8 or 4"),
    ("norm_eps", True, is_positive_real, "a real above 0, as a string"),
    ("rope", True, is_object, "an object"),
    ("tied", True, is_boolean, "a boolean"),
    ("window", False, is_integer, "an integer"),
    ("tensors", True, are(is_string), "an object of strings"),
    ("tokens", True, is_object, "an object"),
)
ROPE = (
    ("style", True, one_of("half", "interleaved"), "half or interleaved"),
    ("theta", True, is_positive_real, "a real above 0, as a string"),
    ("scaling", False, are(lambda v: is_string(v) or is_integer(v)), "an object of strings and integers"),
)
TOKENS = (
    ("bos", False, is_integer, "an integer"),
    ("eos", False, lambda v: is_array(v) and all(map(is_integer, v)), "an array of integers"),
    ("pad", False, is_integer, "an integer"),
)


def check_members(holder, path, members):
    for member, required, test, expected in members:
        if member not in holder:
            if required:
                refuse("R066", WHERE, f"member {path}{member}", "none")
        elif not test(holder[member]):
            refuse("R066", WHERE, f"{path}{member} to be {expected}", quote(holder[member]))


def check_manifest(manifest):
    """R066."""
    check_members(manifest, "", TOP)
    check_members(manifest["provenance"], "provenance.", PROVENANCE)
    if "model" not in manifest:
        return
    model = manifest["model"]
    check_members(model, "model.", MODEL)
    check_members(model["rope"], "model.rope.", ROPE)
    check_members(model["tokens"], "model.tokens.", TOKENS)
    if model["heads"] % model["kv_heads"]:
        refuse("R066", WHERE, f"model.heads a multiple of model.kv_heads ({model['kv_heads']})", model["heads"])


ENTRY = {"name": is_string, "codec": is_string, "stored": is_integer, "raw": is_integer, "blake3": is_digest}


def check_entries(entries, files_bytes):
    """R067 to R069 for `entries`, the manifest's `files`, and the length of FILES (0 where it is absent)."""
    where = "files of the manifest"
    if len(entries) > MAX_FILES:
        refuse("R067", where, f"at most {MAX_FILES} entries", len(entries))
    last = ""
    for entry in entries:
        if not is_object(entry) or set(entry) != set(ENTRY) or not all(test(entry[member]) for member, test in ENTRY.items()):
            refuse("R067", where, "an entry of exactly name, codec, stored, raw and blake3", quote(entry))
        if not FILE_NAME.fullmatch(entry["name"]):
            refuse("R067", where, "a name of 1 to 256 letters, digits, '.', '_' and '-', not beginning with '.'", quote(entry["name"]))
        if entry["name"] <= last:
            refuse("R067", where, f"a name after {quote(last)}", quote(entry["name"]))
        last = entry["name"]
    for entry in entries:
        where, codec, stored, raw = f"file '{entry['name']}'", entry["codec"], entry["stored"], entry["raw"]
        if codec not in ("raw", "zstd"):
            refuse("R068", where, "codec raw or zstd", quote(codec))
        if not 0 <= raw <= MAX_FILE_RAW_BYTES:
            refuse("R068", where, f"raw from 0 to {MAX_FILE_RAW_BYTES}", raw)
        if codec == "raw" and stored != raw:
            refuse("R068", where, f"stored to equal raw ({raw})", stored)
        if codec == "zstd" and stored < 1:
            refuse("R068", where, "stored at least 1", stored)
    total = sum(entry["stored"] for entry in entries)
    if total != files_bytes:
        refuse("R069", "section FILES", f"{total} bytes, the sum of stored{'' if total else ', so no section'}", files_bytes)
