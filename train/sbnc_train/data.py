"""`sbnc-train prepare`: documents → a tokenizer and token files; and the batches that training draws from them.

A data folder holds `tokenizer.json`, `train.bin` and `held_out.bin` (16-bit token ids, every document between `<s>` and `</s>`), `held_out.txt` (the text
of held-out documents that `sbnc ppl` reads) and `data.json`. Which documents are held out depends on a digest of their names.

Batches are a function of seed, step, rank and nothing else, so a run that was stopped goes on with the batches that it would have seen.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from .files import write_atomically

BOS, EOS = "<s>", "</s>"


def train_tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    """Byte-level BPE: any text has tokens, and decoding gives the very text back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return tokenizer


def is_held_out(name: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") < share * 2**32


def encode(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    eos = tokenizer.token_to_id(EOS)
    # Some at a time: what the tokenizer says of a token besides its number takes a hundred bytes.
    parts = (tokenizer.encode_batch(texts[start : start + 1024]) for start in range(0, len(texts), 1024))
    return np.concatenate([np.array([*item.ids, eos], dtype=np.uint16) for part in parts for item in part])


def evenly(texts: list[str], most: int) -> list[str]:
    """At most `most` of them, from everywhere."""
    return texts[:: math.ceil(len(texts) / most)]


def prepare(
    documents: list[dict[str, str]], out: Path, vocab: int, held_out: float, tokenizer: Tokenizer | None = None, most: int = 10_000, scored: int = 10_000
) -> dict:
    if not 512 <= vocab <= 65536:
        raise SystemExit(f"--vocab: expected 512 to 65536 tokens, found {vocab}")
    kept_back = [d["text"] for d in documents if is_held_out(d["name"], held_out)]
    train = [d["text"] for d in documents if not is_held_out(d["name"], held_out)]
    if not kept_back or not train:
        raise SystemExit(f"expected documents on both sides of --held-out {held_out}, found {len(train)} and {len(kept_back)}")
    tokenizer = tokenizer or train_tokenizer(evenly(train, most), vocab)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    train_tokens, held_out_tokens = encode(tokenizer, train), encode(tokenizer, kept_back)
    write_atomically(out / "train.bin", train_tokens.tobytes())
    write_atomically(out / "held_out.bin", held_out_tokens.tobytes())
    write_atomically(out / "held_out.txt", "\n".join(evenly(kept_back, scored)).encode())
    size = sum(len(text.encode()) for text in train)
    facts = {
        "vocab": tokenizer.get_vocab_size(),
        "bos": tokenizer.token_to_id(BOS),
        "eos": tokenizer.token_to_id(EOS),
        "documents": len(train),
        "train_tokens": int(train_tokens.size),
        "held_out_documents": len(kept_back),
        "held_out_tokens": int(held_out_tokens.size),
        "bytes_per_token": round(size / train_tokens.size, 3),
        "sources": sorted({d["source"] for d in documents}),
    }
    write_atomically(out / "data.json", (json.dumps(facts, indent=1) + "\n").encode())
    return facts


class Batches:
    """Random windows of a token file."""

    def __init__(self, path: Path, context: int, seed: int, rank: int = 0) -> None:
        self.tokens = np.memmap(path, dtype=np.uint16, mode="r")
        self.context, self.seed, self.rank = context, seed, rank
        if len(self.tokens) <= context:
            raise SystemExit(f"{path}: expected more than {context} tokens, a whole window, found {len(self.tokens)}")

    def at(self, step: int, micro: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one micro-batch."""
        draw = np.random.default_rng((self.seed, step, micro, self.rank))
        starts = draw.integers(0, len(self.tokens) - self.context, size)
        rows = np.stack([self.tokens[start : start + self.context + 1] for start in starts]).astype(np.int64)
        rows = torch.from_numpy(rows)
        return rows[:, :-1], rows[:, 1:]

    def windows(self, size: int, most: int | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """All windows in order, without overlap, for scoring; at most `most` batches of them."""
        count = (len(self.tokens) - 1) // self.context
        rows = [self.tokens[i * self.context : (i + 1) * self.context + 1].astype(np.int64) for i in range(count)]
        batches = [torch.from_numpy(np.stack(rows[i : i + size])) for i in range(0, count, size)][:most]
        return [(batch[:, :-1], batch[:, 1:]) for batch in batches]


def add_arguments(parser) -> None:
    parser.add_argument("--corpus", type=Path, required=True, help="JSON lines with `name`, `source` and `text`")
    parser.add_argument("--out", type=Path, required=True, help="the data folder to write")
    parser.add_argument("--vocab", type=int, default=2048, help="tokens of the vocabulary")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json of an earlier data folder, instead of training one")
    parser.add_argument("--tokenizer-documents", type=int, default=10_000, help="at most so many documents for training one")
    parser.add_argument("--held-out", type=float, default=0.01, help="share of the documents that training never sees")
    parser.add_argument("--text-documents", type=int, default=10_000, help="at most so many of them for held_out.txt, from everywhere")


def run(arguments) -> None:
    with open(arguments.corpus, encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer)) if arguments.tokenizer else None
    facts = prepare(documents, arguments.out, arguments.vocab, arguments.held_out, tokenizer, arguments.tokenizer_documents, arguments.text_documents)
    print(json.dumps(facts, indent=1))
