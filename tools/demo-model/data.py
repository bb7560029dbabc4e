"""Corpus files to token arrays, and the order in which training sees them."""
import pathlib
import re

import numpy
import torch

HEADING = re.compile(r"(chapter|part|book) [0-9ivxlc]+\b", re.IGNORECASE)


def is_heading(paragraph):
    """A short line without lower-case letters, or "Chapter 7 ...": how these books mark stories and chapters."""
    if len(paragraph) > 80 or "\n" in paragraph or paragraph.startswith(('"', "'")):
        return False
    return bool(HEADING.match(paragraph)) or (paragraph == paragraph.upper() and bool(re.search("[A-Z]{2}", paragraph)))


def documents(text):
    """Cuts a book before each heading, so that the model learns to begin and to end a story; headings stay together."""
    document, previous_is_heading = [], False
    for paragraph in text.strip().split("\n\n"):
        heading = is_heading(paragraph)
        if heading and not previous_is_heading and document:
            yield "\n\n".join(document)
            document = []
        document.append(paragraph)
        previous_is_heading = heading
    yield "\n\n".join(document)


def books(folder):
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(pathlib.Path(folder).glob("*.txt"))}


def training_tokens(folder, tokenizer):
    ids = []
    for text in books(folder).values():
        for document in documents(text):
            ids.append(tokenizer.eot)
            ids.extend(tokenizer.encode(document))
    return numpy.array([*ids, tokenizer.eot], dtype=numpy.uint16)


class Windows:
    """Windows of length + 1 tokens without end: each epoch cuts the corpus at a new offset and shuffles the pieces."""

    def __init__(self, tokens, length, seed):
        self.tokens, self.length, self.seed, self.epoch, self.queue = tokens, length, seed, 0, []

    def refill(self):
        rng = numpy.random.default_rng([self.seed, self.length, self.epoch])
        starts = numpy.arange(rng.integers(self.length), len(self.tokens) - self.length - 1, self.length)
        self.queue = rng.permutation(starts).tolist()
        self.epoch += 1

    def take(self, count):
        rows = []
        while len(rows) < count:
            if not self.queue:
                self.refill()
            start = self.queue.pop()
            rows.append(self.tokens[start:start + self.length + 1].astype(numpy.int64))
        return torch.from_numpy(numpy.stack(rows))


def held_out_windows(folder, tokenizer, length, count):
    """`count` windows spread evenly over each held-out book, for the checks during training."""
    rows = []
    for text in books(folder).values():
        ids = [tokenizer.eot, *tokenizer.encode(text.strip())]
        step = (len(ids) - length - 1) // count
        rows.extend(ids[i * step:i * step + length + 1] for i in range(count))
    return torch.tensor(rows)
