"""Writes simple stories: training text for the demo model, made by a program from a seed.

A story is simulated, not filled in: a plot (tales/plots.py) decides who wants what, who meets whom and what follows, and
the teller (tales/engine.py) puts it into words, so that names, pronouns, things and causes hold to the end.
The same seed gives the same text; no clock, no hash order.

    python3 stories.py --seed 1 --megabytes 12 OUTFOLDER      generated-000.txt ... of about 500 kB each
    python3 stories.py --seed 1 --megabytes 2 --check         tells what the text is like, writes nothing
"""
import argparse
import pathlib
import random

from tales import acts, check, plots
from tales.engine import Story

FILE_BYTES = 500_000


def stories(seed):
    """Stories without end: (plot name, text)."""
    rng = random.Random(seed)
    bag = []
    while True:
        if not bag:
            bag = [plot for plot, weight in plots.PLOTS for _ in range(weight)]
            rng.shuffle(bag)
        plot = bag.pop()
        story = Story(rng, plot.__name__)
        acts.small_words(story)
        plot(story)
        yield plot.__name__, story.text()


def sized(seed, size):
    done = 0
    for name, text in stories(seed):
        if done >= size:
            return
        done += len(text.encode()) + 2
        yield name, text


def write(folder, seed, size):
    folder.mkdir(parents=True, exist_ok=True)
    book, length, number = [], 0, 0
    for _, text in sized(seed, size):
        book.append(text)
        length += len(text) + 2
        if length >= FILE_BYTES:
            save(folder, number, book)
            book, length, number = [], 0, number + 1
    if book:
        save(folder, number, book)


def save(folder, number, book):
    (folder / f"generated-{number:03}.txt").write_text("\n\n".join(book) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--check", action="store_true", help="check the text instead of writing it")
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    options = parser.parse_args()
    size = int(options.megabytes * 1_000_000)
    if options.check:
        raise SystemExit(check.report(list(sized(options.seed, size))))
    if options.folder is None:
        parser.error("a folder to write to, or --check")
    write(options.folder, options.seed, size)


if __name__ == "__main__":
    main()
