"""Checks on generated text that can fail, and figures of its variety."""
import collections
import re

VOWEL_AS_CONSONANT = re.compile(r"(one|once|uni[cfqt]|use|eu|ewe)", re.IGNORECASE)
TWO_DETERMINERS = re.compile(
    r"\bthe (?:the|an?|his|her)\b|\ban? (?:the|an?|his|her)\b|\b(?:his|her) (?:the|an?)\b|\bNone\b|[A-Za-z]'s's")
DOUBLES = {"had had", "that that", "very very"}


def faults(text):
    """What is wrong with one story, as (fault, excerpt)."""
    for match in re.finditer(r"[{}\[\]|<>@_]|~", text):
        yield "unfilled placeholder", text[max(0, match.start() - 30):match.end() + 30]
    paragraphs = text.split("\n\n")
    if paragraphs[0] != paragraphs[0].upper() or len(paragraphs[0]) > 80:
        yield "heading", paragraphs[0]
    if not paragraphs[-1].endswith((".", "!", "?", '."', '!"', '?"')):
        yield "end", paragraphs[-1][-40:]
    for paragraph in paragraphs[1:]:
        yield from paragraph_faults(paragraph)


def paragraph_faults(paragraph):
    for match in re.finditer(r"\b[Aa] ([aeiou]\w*)|\b[Aa]n ([^aeiou\W]\w*)", paragraph):
        vowel, consonant = match.groups()
        wrong_a = vowel and not VOWEL_AS_CONSONANT.match(vowel)
        wrong_an = consonant and not consonant.startswith(("hour", "honest", "heir"))
        if wrong_a or wrong_an:
            yield "a or an", match.group()
    if paragraph.count('"') % 2:
        yield "quotes", paragraph[:60]
    for match in re.finditer(r"\b(\w+) \1\b", paragraph):
        if match.group() not in DOUBLES:
            yield "doubled word", paragraph[max(0, match.start() - 20):match.end() + 20]
    for match in re.finditer(r'(?:^"?|\. "?|[.]" )[a-z]|[ ,][,.;!?]|  |\w"\w|,\.|\.\.|!\.|\?\.', paragraph):
        yield "capital or stop", paragraph[max(0, match.start() - 30):match.end() + 30]
    if not re.search(r'[.!?:]"?$', paragraph):
        yield "paragraph end", paragraph[-40:]
    for match in TWO_DETERMINERS.finditer(paragraph):
        yield "two determiners", paragraph[max(0, match.start() - 20):match.end() + 20]


def report(tales):
    counts, total = collections.Counter(), collections.Counter()
    grams, seen, lengths = set(), collections.Counter(), []
    all_grams = 0
    for name, text in tales:
        total[name] += 1
        for fault, excerpt in faults(text):
            counts[fault] += 1
            if counts[fault] <= 6:
                print(f"{fault} ({name}): ...{excerpt}...")
        tokens = re.findall(r"[\w']+|[^\w\s]", text.lower())
        lengths.append(len(text.split()))
        grams.update(zip(*(tokens[i:] for i in range(5))))
        all_grams += max(0, len(tokens) - 4)
        seen.update(text.split("\n\n")[1:])
    paragraphs = sum(seen.values())
    print(f"{len(tales)} stories, {sum(lengths)} words, words per story: least {min(lengths)}, "
          f"median {sorted(lengths)[len(lengths) // 2]}, most {max(lengths)}")
    print(f"distinct 5-grams: {len(grams)} of {all_grams} = {100 * len(grams) / all_grams:.1f} %")
    print(f"paragraphs that occur before: {100 * (paragraphs - len(seen)) / paragraphs:.1f} % of {paragraphs}")
    for name, count in total.most_common():
        print(f"{100 * count / len(tales):5.1f} %  {name}")
    print("faults:", dict(counts) or "none")
    return 1 if counts else 0
