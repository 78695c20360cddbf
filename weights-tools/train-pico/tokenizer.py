"""Builds the LLaMA-style tokenizer of pico-llava and encodes prompts with it.

Ids: 0 <unk>, 1 <s>, 2 </s>, 3..258 the byte tokens, then the merged pieces in the
order of their merges, then the single characters, then <image> and <pad>.
"""

import functools
import json
from collections import Counter
from pathlib import Path

import tokenizers

import scenes

SPACE = "\u2581"  # LLaMA's visible space; every word but the first of a line begins with it
BOS, EOS = 1, 2
FIRST_PIECE = 3 + 256
VOCAB_MULTIPLE = 64


def training_words():
    """Words as they stand in a prompt: the first of a question follows the line break, so it has no SPACE."""
    words = {"USER", "ASSISTANT"} | set(scenes.answer_words())
    pieces = set()
    for sentence in scenes.sentences():
        first, *rest = sentence.rstrip("?.").split()
        pieces.add(first)
        words.update(rest)
    return sorted(pieces | {SPACE + word for word in words})


def train_merges(words):
    """Byte-pair merges, most frequent pair first, until each word is one piece; returns the pieces in order."""
    symbols = [list(word) for word in words]
    pieces = []
    while any(len(word) > 1 for word in symbols):
        pairs = Counter(pair for word in symbols for pair in zip(word, word[1:]))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        pieces.append(left + right)
        for word in symbols:
            i = 0
            while i + 1 < len(word):
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    return list(dict.fromkeys(pieces))


def _special(index, content):
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def build():
    """tokenizer.json as a dict, in the form that Hugging Face's LLaMA converter writes."""
    merged = train_merges(training_words())
    characters = [SPACE] + [chr(c) for c in range(0x21, 0x7F)]
    vocab = {"<unk>": 0, "<s>": BOS, "</s>": EOS}
    vocab |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {piece: FIRST_PIECE + i for i, piece in enumerate(merged + characters)}

    # Every split of a piece into two pieces is a merge, as SentencePiece has it: a
    # reader that goes by scores and one that goes by the list of merges then agree.
    merges = []
    for piece in merged:
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        splits = [s for s in splits if s[0] in vocab and s[1] in vocab]
        merges += sorted(splits, key=lambda s: (vocab[s[0]], vocab[s[1]]))

    image, pad = len(vocab), len(vocab) + 1
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    pair = [bos, sequence, {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _special(0, "<unk>"),
            _special(BOS, "<s>"),
            _special(EOS, "</s>"),
            _special(image, "<image>"),
            _special(pad, "<pad>"),
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, sequence],
            "pair": pair,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


class Tokenizer:
    """Encodes the two text segments around the image, and the answer that follows them."""

    def __init__(self, data=None):
        self.data = data or build()
        self._inner = tokenizers.Tokenizer.from_str(json.dumps(self.data))
        base = len(self.data["model"]["vocab"])
        self.image, self.pad = base, base + 1
        self.rows = -(-(base + 2) // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        self.prefix = [BOS] + self.encode("USER: ")  # everything before the image rows
        self.prompt = functools.lru_cache(None)(self._prompt)
        self.answer = functools.lru_cache(4096)(self._answer)

    @classmethod
    def load(cls, folder):
        return cls(json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8")))

    def encode(self, text):
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self._inner.decode(ids, skip_special_tokens=True)

    def _prompt(self, question):
        """Ids between the image rows and the answer."""
        return self.encode(f"\n{question} ASSISTANT:")

    def _answer(self, text):
        """Ids of an answer as it continues a prompt, with the end of the turn."""
        head = self.encode("ASSISTANT:")
        whole = self.encode(f"ASSISTANT: {text}")
        assert whole[: len(head)] == head
        return whole[len(head) :] + [EOS]
