#!/usr/bin/env python3
"""Trains the demo model's byte-level BPE on a folder of .txt files and writes the merges as JSON."""
import argparse
import collections
import heapq
import pathlib
import time

from bpe import SPLITTER, Tokenizer, byte_alphabet


def count_words(folder):
    """How often each pre-token occurs: merges never cross pre-tokens, so the counts are all that training needs."""
    counts = collections.Counter()
    for path in sorted(pathlib.Path(folder).glob("*.txt")):
        counts.update(SPLITTER.findall(path.read_text(encoding="utf-8")))
    return counts


def merge_word(symbols, pair):
    merged, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


class PairTable:
    """Counts of adjacent pairs with the words each occurs in, so that a merge touches only those words."""

    def __init__(self, word_counts):
        alphabet = byte_alphabet()
        self.words = [[alphabet[b] for b in word.encode("utf-8")] for word in word_counts]
        self.weights = list(word_counts.values())
        self.counts = collections.Counter()
        self.places = collections.defaultdict(set)
        for index in range(len(self.words)):
            self.add(index, +1)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def add(self, index, sign):
        symbols = self.words[index]
        for pair in zip(symbols, symbols[1:]):
            self.counts[pair] += sign * self.weights[index]
            self.places[pair].add(index)

    def best(self):
        """The most frequent pair, ties by text: heap entries whose count is out of date are put back corrected."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if -count == self.counts[pair]:
                return pair
            if self.counts[pair] > 0:
                heapq.heappush(self.heap, (-self.counts[pair], pair))
        return None

    def merge(self, pair):
        touched = set()
        for index in self.places.pop(pair):
            self.add(index, -1)
            self.words[index] = merge_word(self.words[index], pair)
            self.add(index, +1)
            touched.update(zip(self.words[index], self.words[index][1:]))
        joined = pair[0] + pair[1]
        for new in touched:
            if joined in new:
                heapq.heappush(self.heap, (-self.counts[new], new))


def train(folder, vocabulary):
    table = PairTable(count_words(folder))
    merges = []
    while len(merges) < vocabulary - 256 - 1:  # 256 bytes and <|endoftext|>
        pair = table.best()
        if pair is None:
            break
        table.merge(pair)
        merges.append(pair)
    return Tokenizer(merges)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="folder of UTF-8 .txt files")
    parser.add_argument("output", help="tokenizer file to write (JSON)")
    parser.add_argument("--vocabulary", type=int, default=6144)
    args = parser.parse_args()
    start = time.time()
    tokenizer = train(args.corpus, args.vocabulary)
    tokenizer.save(args.output)
    print(f"{len(tokenizer.tokens)} tokens in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
