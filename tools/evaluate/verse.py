"""Verse in Shakespeare's words and measure, made from a seed: a text that is unlike tales and needs no file.

Sonnet-like stanzas of ten-syllable lines in the second person singular, of about 300 words. It means nothing.
"""
import random

NOUNS = ("beauty summer winter tongue sorrow glass shadow flower treasure spirit mistress servant canker morning ocean "
         "heaven fortune physic pleasure raven lily tyrant graven feather engine dagger crown king traitor").split()
SHORT = ("love time death eye heart rose night day breath youth age grave verse pen worm bud sun moon tear blood "
         "brow cheek shame pride truth fire ice sword throne fool").split()
ADJECTIVES = ("gentle cruel lovely golden wretched mortal idle bitter noble sullen gaudy heavy holy purple tender "
              "ruined weary pallid swarthy proud-pied").split()
PLAIN = "sweet fair foul black old dull false true cold hot dear vile swift rude chaste base blind proud pale mad".split()
VERBS = "steals mars lends scorns woos drowns mocks robs cloys stains wakes slays feeds tames binds crowns".split()
FIRST = ("Shall I compare thy {s} to {a} {s}?", "When I do count the {s} that tells the {s},",
         "O, how thy {p} {n} {v} the {s},", "And thou, {p} {s}, that art mine own {n},",
         "Nor dare I chide the {a} {n} hour,", "Yet doth my {s} to thee as vassal {s},",
         "What hast thou then more than thou hadst before?", "For thy {p} {s} is {v_ed} in {n},",
         "Thus is the {s} a {p} and {p} {n},", "Whilst that my {s}, {p} {s}, doth {v_base} thee,",
         "If thou couldst {v_base} the {a} {n}'s {s},", "Hence, {p} {n}! thou art not {s}'s fool,",
         "So long as {s} can breathe, or eyes can see,", "The {a} {n} hath my {s} undone,",
         "Then let not {n}'s {p} hand deface", "Why didst thou promise such a {p} {s}?")
BASE = "steal mar lend scorn woo drown mock rob cloy stain wake slay feed tame bind crown".split()
ED = "stol'n marr'd lent scorn'd woo'd drown'd mock'd robb'd cloy'd stain'd wak'd slain fed tam'd bound crown'd".split()


def line(rng):
    text = rng.choice(FIRST)
    for key, words in (("{s}", SHORT), ("{n}", NOUNS), ("{a}", ADJECTIVES), ("{p}", PLAIN), ("{v}", VERBS),
                       ("{v_base}", BASE), ("{v_ed}", ED)):
        while key in text:
            text = text.replace(key, rng.choice(words), 1)
    return text


def write(seed, size):
    rng = random.Random(seed)
    stanzas, length = [], 0
    while length < size:
        stanza = "\n".join(line(rng) for _ in range(14))
        stanzas.append(stanza)
        length += len(stanza) + 2
    return "\n\n".join(stanzas) + "\n"
