"""Byte-level BPE as GPT-2 and Qwen2 use it: the byte alphabet, the splitter, encoding, and the tokenizer file."""
import json

import regex

# The splitter of `tokenizer.ggml.pre = "qwen2"`, so that every GGUF reader that knows Qwen2 cuts text the same way.
QWEN2_SPLIT = (r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
               r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
END_OF_TEXT = "<|endoftext|>"
SPLITTER = regex.compile(QWEN2_SPLIT)


def byte_alphabet():
    """GPT-2's printable stand-in for each of the 256 bytes, in its order: printable bytes first, then the others."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


class Tokenizer:
    """Ids: 256 byte symbols, one per merge in merge order, then <|endoftext|>."""

    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.alphabet = byte_alphabet()
        self.tokens = [*self.alphabet.values(), *(a + b for a, b in self.merges), END_OF_TEXT]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.ranks = {pair: i for i, pair in enumerate(self.merges)}
        self.bytes_of = {symbol: byte for byte, symbol in self.alphabet.items()}
        self.eot = len(self.tokens) - 1
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            return cls(json.load(file)["merges"])

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"pre": "qwen2", "merges": self.merges}, file, ensure_ascii=False, indent=0)

    def encode_word(self, word):
        symbols = [self.alphabet[b] for b in word.encode("utf-8")]
        while len(symbols) > 1:
            pairs = list(zip(symbols, symbols[1:]))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged, i = [], 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == best:
                    merged.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            symbols = merged
        return [self.ids[s] for s in symbols]

    def encode(self, text):
        ids = []
        for word in SPLITTER.findall(text):
            if word not in self.cache:
                self.cache[word] = self.encode_word(word)
            ids.extend(self.cache[word])
        return ids

    def decode(self, ids):
        text = "".join(self.tokens[i] for i in ids if i != self.eot)
        return bytes(self.bytes_of[c] for c in text).decode("utf-8", errors="replace")
