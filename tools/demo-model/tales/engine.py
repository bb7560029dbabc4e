"""The teller: the state of one story, and the making of sentences from it.

A plot is a function of a Story. It makes characters (Who), things and places, binds them to short keys, decides what
happens and why, and calls say(), p() (a new paragraph) and talk() (a paragraph of speech) with alternative phrasings.
One is chosen, of those used least so far in this story, and filled from the state:

    [one|two|]        a free choice, may be nested
    <flower>          a word of the bank of that name (banks.MACROS), a new one each time
    {h}               the character bound to h: a name, or "the boy" where only one boy is in the story
    {h~} {h~him} {h~his}              a pronoun where nobody else in the paragraph could be meant, else the name
    {h.he} {h.his} {h.him} {h.self}   the pronoun, always: within a clause about h
    {h.intro} {h.a}   "a little boy named Tom", "a little boy"; {h.know} tells the name; {h.went} is how h moves
    {t} {t.a}         a thing: "the silver key" or "the key", "a silver key"
    {p} {p.at} {p.to} a place: "the mill", "by the mill", "to the mill"

Templates are written without capitals, and with "a" for both articles; both are mended when the sentence is done.
The engine knows no plot and no word of the stories but pronouns. Why templates of sentences and not a grammar of
words: a sentence written as a whole is good English, and the state keeps one sentence consistent with the next.
"""
import re

from tales.banks import BEATS, MACROS, TONES, VARIANTS

PRONOUNS = {
    "m": {"he": "he", "him": "him", "his": "his", "self": "himself"},
    "f": {"he": "she", "him": "her", "his": "her", "self": "herself"},
    "n": {"he": "it", "him": "it", "his": "its", "self": "itself"},
}
AN = re.compile(
    r"\b([Aa]) (?=(?:[aeiouAEIOU]|hour|honest|heir))(?!(?:one|once|uni|use|eu|ewe)\b)(?!(?:uni[cfqt]|usef|usua))")
INNER = re.compile(r"(^|[ (])'([^']+[.!?,])'(?=[ .]|$)")
SLOT = re.compile(r"\{(\w+)([.~]\w*)?\}")


class Who:
    """A character: what it is called, how it moves, whose relation it is."""

    def __init__(self, noun, gender, name=None, adj="", went="walked", of=None, home=None, small=False, animal=False):
        gender = "f" if noun in ("cow", "hen", "goose", "grey goose", "dairymaid", "widow", "goose-girl") else gender
        self.noun, self.gender, self.name, self.adj, self.went, self.of = noun, gender, name, adj, went, of
        self.home, self.small, self.animal, self.met = home, small, animal, False

    def __getattr__(self, key):
        if key.startswith("__"):
            raise AttributeError(key)
        return PRONOUNS[self.gender][key]


class Thing:
    def __init__(self, noun, adj=""):
        self.noun, self.adj = noun, adj

    @property
    def bare(self):
        return f"{self.adj} {self.noun}".strip()


class Place:
    def __init__(self, noun, at="in", to="into"):
        self.noun, self.at, self.to = noun, f"{at} the {noun}", f"{to} the {noun}"


class Story:
    """One story: values (what is bound), who has been named in this paragraph and the last, the text so far."""

    def __init__(self, rng, plot):
        self.rng, self.plot, self.values, self.used = rng, plot, {}, {}
        self.paragraphs, self.current, self.title = [], [], ""
        self.named, self.named_before, self.last_speaker = [], [], None
        self.season = rng.choice(["spring", "summer", "autumn", "winter"])
        self.nouns = {}

    # -- state ---------------------------------------------------------------------------------------------------

    def bind(self, **values):
        for key, value in values.items():
            self.values[key] = value
            if isinstance(value, Who):
                self.nouns.setdefault(value.noun, set()).add(id(value))

    # -- choosing ------------------------------------------------------------------------------------------------

    def pick(self, options):
        """One of the options, of those used least in this story."""
        if isinstance(options, str):
            return options
        least = min(self.used.get(option, 0) for option in options)
        option = self.rng.choice([option for option in options if self.used.get(option, 0) == least])
        self.used[option] = self.used.get(option, 0) + 1
        return option

    def chance(self, probability):
        return self.rng.random() < probability

    def unbracket(self, text):
        while "[" in text:
            end = text.index("]")
            start = text.rindex("[", 0, end)
            text = text[:start] + self.rng.choice(text[start + 1:end].split("|")) + text[end + 1:]
        return text

    def label(self, who):
        """What to call somebody: a relation ("his mother"), a name that has been told, or the kind."""
        if who.of is not None:
            rivals = [w for w in self.named if w is not who.of and w is not who and w.gender == who.of.gender]
            if who.of in self.named and not rivals:
                return f"{who.of.his} {who.noun}"
            return f"{who.of.name or 'the ' + who.of.noun}'s {who.noun}"
        if who.name and who.met and (len(self.nouns.get(who.noun, ())) > 1 or not self.chance(0.2)):
            return who.name
        if who.name and not who.noun:
            return who.name
        return f"the {who.noun}"

    def clear(self, who, seen):
        """Whether a pronoun can only mean `who`, of those seen."""
        return who in seen and not [other for other in seen if other is not who and other.gender == who.gender]

    def slot(self, match):
        key, attribute = match.group(1), match.group(2) or ""
        value = self.values.get(key)
        if key == "season":
            return self.season
        if key == "bloom":
            return "snow" if self.season == "winter" else self.values["flowers"]
        if value is None:
            raise KeyError(f"{self.plot}: no {{{key}}}")
        if isinstance(value, str):
            return value
        if isinstance(value, Who):
            return self.slot_who(value, attribute)
        if attribute == ".a":
            return f"a {value.bare}"
        if attribute == ".bare":
            return value.bare
        if attribute:
            return getattr(value, attribute[1:])
        if isinstance(value, Thing) and value.adj and self.chance(0.5):
            return f"the {value.bare}"
        return f"the {value.noun}"

    def slot_who(self, who, attribute):
        if attribute.startswith("~"):
            form = attribute[1:] or "he"
            if self.clear(who, self.named):
                return PRONOUNS[who.gender][form]
            name = self.label(who)
            self.name(who)
            return name + "'s" if form == "his" else name
        if not attribute:
            name = self.label(who)
            self.name(who)
            return name
        if attribute in (".intro", ".a"):
            self.name(who)
            who.met = True
            text = f"a {who.adj} {who.noun}".replace("  ", " ")
            if attribute == ".intro" and who.name:
                text += self.rng.choice([f" named {who.name}", f" called {who.name}", f" whose name was {who.name}"])
            elif who.name:
                who.met = False
            return text
        if attribute == ".know":
            self.name(who)
            who.met = True
            return who.name or f"the {who.noun}"
        if attribute == ".went":
            return self.unbracket(who.went)
        return getattr(who, attribute[1:])

    def name(self, who):
        if who in self.named:
            self.named.remove(who)
        self.named.append(who)

    def fill(self, template, vary=False):
        text = self.unbracket(template)
        while "<" in text:
            text = self.unbracket(re.sub(r"<(\w+)>", lambda m: self.pick(MACROS[m.group(1)]), text))
        for pattern, options in VARIANTS if vary else ():
            text = pattern.sub(lambda match: self.rng.choice(options), text)
        text = self.unbracket(SLOT.sub(self.slot, text))
        return AN.sub(r"\1n ", re.sub(r" +", " ", text).strip()).replace(" ,", ",").replace(" .", ".")

    # -- telling -------------------------------------------------------------------------------------------------

    def say(self, *options):
        self.current.append(INNER.sub(r'\1"\2"', self.fill(self.pick(options), vary=True)))
        self.last_speaker = None

    def maybe(self, probability, *options):
        if self.chance(probability):
            self.say(*options)

    def br(self):
        if self.current:
            self.paragraphs.append(" ".join(capitalise(part) for part in self.current if part))
            self.current, self.named_before, self.named = [], self.named, []

    def p(self, *options):
        self.br()
        self.say(*options)

    def tag_name(self, who):
        if who.gender != "n" and self.clear(who, self.named_before + self.named) and self.chance(0.4):
            return PRONOUNS[who.gender]["he"]
        name = self.label(who)
        self.name(who)
        return name

    def talk(self, who, *quotes, tone="say"):
        """A paragraph of speech: one of the quotes, with or without who said it and how."""
        previous = self.last_speaker
        self.br()
        quote = capitalise(self.fill(self.pick(quotes)))
        verbs, adverbs = TONES[tone]
        verb = self.rng.choice(verbs)
        adverb = " " + self.rng.choice(adverbs) if adverbs and self.chance(0.25) else ""
        sentences = re.split(r"(?<=[.!?]) +", quote)
        form = self.rng.random()
        if form < 0.12 and tone in BEATS:
            name = self.tag_name(who)
            if who not in self.named:
                self.name(who)
            beat = self.beat(who, name, tone)
            self.current.append(f'{beat} "{quote}"')
        elif form < 0.2 and previous is not None and previous is not who and tone in ("say", "ask", "reply"):
            self.current.append(f'"{quote}"')
        elif form < 0.3:
            self.current.append(f'{self.tag_name(who)} {verb}{adverb}, "{quote}"')
        elif form < 0.62 and len(sentences) > 1:
            rest = " ".join(sentences[1:])
            verb = "said" if tone == "ask" and not sentences[0].endswith("?") else verb
            self.current.append(f'"{comma(sentences[0])}" {self.tag(who, verb)}{adverb}. "{rest}"')
        else:
            verb = "said" if tone == "ask" and not quote.endswith("?") else verb
            self.current.append(f'"{comma(quote)}" {self.tag(who, verb)}{adverb}.')
        if who not in self.named:
            self.name(who)
        self.last_speaker = who

    def beat(self, who, name, tone):
        saved = self.values.get("_w")
        self.values["_w"] = who
        text = self.fill(self.rng.choice(BEATS[tone]).replace("@", name))
        self.values["_w"] = saved
        return text

    def tag(self, who, verb):
        name = self.tag_name(who)
        return f"{name} {verb}" if name in ("he", "she") else f"{verb} {name}"

    def text(self):
        self.br()
        return "\n\n".join([self.title.upper(), *self.paragraphs])


def comma(quote):
    return quote[:-1] + "," if quote.endswith(".") else quote


def capitalise(text):
    """Capitals at the start of a paragraph and after each sentence; what follows a quoted "?" or "!" stays small."""
    out = list(text)
    for match in re.finditer(r'(?:^"?|[.!?] "?|\." "?|: "|, ")(?=[a-z])', text):
        out[match.end()] = out[match.end()].upper()
    return "".join(out)
