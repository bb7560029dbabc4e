"""What happens in many tales: people are introduced, set out, meet, walk, rest, thank each other, come home."""
from tales.banks import (
    BIG_ANIMALS, BOYS, CARRIED, COLOURS, CRAFTS, FAMILY, FLOWERS, FOODS, GIRLS, GOOD_TRAITS, HOLD, OLD_FOLK, PETS,
    PLACES, SETTINGS, SMALL_ANIMALS, SUPPERS, TOWNS, TREES, words)
from tales.engine import Place, Thing, Who
from tales.scenes import SCENES


# -- making the cast ---------------------------------------------------------------------------------------------

def used_names(s):
    return {value.name for value in s.values.values() if isinstance(value, Who)}


def used_nouns(s):
    return {value.noun for value in s.values.values() if isinstance(value, Who)}


def fresh(s, options, taken):
    return s.rng.choice([option for option in options if option not in taken])


def child(s, gender=None, adj=None):
    gender = gender or s.rng.choice("mf")
    name = fresh(s, BOYS if gender == "m" else GIRLS, used_names(s))
    adj = (
        adj
        if adj is not None else
        s.rng.choice(["little", "little", "poor", "young", "small", "", "merry", "lonely", "good"]))
    who = Who(
        "boy" if gender == "m" else "girl", gender, name, adj, "[walked|went|ran|walked|hurried]",
        home=s.rng.choice(["cottage", "house", "little house"]))
    who.carries = s.rng.choice(CARRIED)
    return who


def animal(s, gender=None, named=True):
    noun, went, home, food = s.rng.choice([line for line in SMALL_ANIMALS if line[0] not in used_nouns(s)])
    name = fresh(s, PETS, used_names(s)) if named else None
    who = Who(
        noun, gender or s.rng.choice("mf"), name,
        s.rng.choice(["little", "young", "small", "little", "grey", "brown", ""]), went, home=home, small=True,
        animal=True)
    who.food, who.carries = food, food
    return who


def grown(s, gender=None):
    craft = s.rng.choice([c for c in CRAFTS if c not in used_nouns(s)])
    gender = "f" if craft == "lacemaker" else gender or "m"
    name = fresh(s, BOYS if gender == "m" else GIRLS, used_names(s)) if s.chance(0.7) else None
    return Who(
        craft, gender, name,
        s.rng.choice(["poor", "honest", "young", "old", "good", "hard-working", "cheerful", "lonely"]),
        "[walked|went|strode]", home=s.rng.choice(["shop", "house", "cottage"]))


def beast(s):
    noun = s.rng.choice([b for b in BIG_ANIMALS if b not in used_nouns(s)])
    return Who(
        noun, s.rng.choice("mmmf") if noun != "bull" else "m", None,
        s.rng.choice(["big", "hungry", "fierce", "great", "huge", "strong", "old"]), "[came|prowled]", animal=True)


def elder(s, gender=None):
    noun, sex = s.rng.choice([f for f in OLD_FOLK if f[0] not in used_nouns(s) and (gender is None or f[1] == gender)])
    adj = (
        ""
        if noun.startswith(("old", "little", "wandering", "grand")) else
        s.rng.choice(["old", "lame", "ragged", "bent", "poor", "friendly", "tired"]))
    return Who(noun, sex, None, adj, "[walked|hobbled|went]")


def parent(s, h, gender=None):
    gender = gender or s.rng.choice("ffm")
    father = s.rng.choice(["father", "father", "grandfather"])
    mother = s.rng.choice(["mother", "mother", "mother", "grandmother", "aunt"])
    noun = father if gender == "m" else mother
    return Who(noun, gender, of=h)


def other(gender):
    return "f" if gender == "m" else "m"


def thing(s, noun=None):
    taken = {value.noun for value in s.values.values() if isinstance(value, Thing)}
    noun = noun or s.rng.choice([n for n in HOLD if n not in taken])
    return Thing(noun, s.rng.choice(words(HOLD[noun])))


AT_AND_TO = {
    "wood": ("in", "into"), "hill": ("on", "up"), "water": ("by", "down to"), "field": ("in", "to"), "house": ("by", "to")}


def place(s, kind=None):
    kind = kind or s.rng.choice(list(PLACES))
    taken = {value.noun for value in s.values.values() if isinstance(value, Place)}
    noun = s.rng.choice([n for n in PLACES[kind] if n not in taken])
    at, to = AT_AND_TO[kind]
    return Place(noun, at, to)


def small_words(s):
    """Words that any sentence may use, new for each story."""
    pick = s.rng.choice
    flowers = s.rng.sample(FLOWERS, 2)
    trees = s.rng.sample(TREES, 2)
    s.bind(
        setting=pick(SETTINGS), town=pick(TOWNS), tree=trees[0], tree2=trees[1], flowers=flowers[0],
        flowers2=flowers[1], supper=pick(SUPPERS), food=pick(FOODS), colour=pick(COLOURS), family=pick(FAMILY),
        good=pick(GOOD_TRAITS))


SHAWLS = "[shawl|cloak|hood|coat|apron|kerchief|scarf]"


def looks(s, key):
    """A sentence on the looks of a person or a creature."""
    who = s.values[key]
    k = "{%s~}" % key
    his, hers = "{%s.his}" % key, "{%s~his}" % key
    if who.animal:
        s.say(
            f"{k} had [bright|round|dark|clever|merry|sleepy|gentle] [black |brown ||||]eyes and [a white spot on "
            f"{his} breast|a scar over one of them|a tuft on {his} head|soft grey whiskers|a stripe down {his} "
            "back|short legs|a quick little tongue].",
            (f"{k} was [no bigger than|about as big as|a little smaller than] [a teapot|a turnip|a loaf of bread|a "
             f"boot|a pumpkin|a hat|a cabbage], and [as round as a ball|as brown as a nut|as soft as moss|as quick as "
             "a wink|as neat as a pin]."
             if who.small else
             f"{k} had [a white breast|bright eyes|a scar over one eye|a grey back|a quiet way of looking]."))
    elif key == "h":
        s.say(
            f"{k} [always wore|wore|was seldom seen without] a <colour> {SHAWLS} [with a patch of <colour>|that had "
            f"once been {his} [grandmother's|uncle's|cousin's]|trimmed with <colour>|that was much too large|with "
            "<number> buttons].",
            f"{hers} hair was [as fair as flax|as brown as a nut|as black as a crow|as red as a fox], and {his} eyes "
            "[twinkled|were as blue as the sky|were like two stars|missed nothing].",
            f"{k} was [tall and thin|short and round|as thin as a rake|small for {his} age|as quick as a cat], and "
            "[hummed a tune all day|had a laugh like a bell|could whistle like a <bird>|was seldom ill].")
    else:
        s.say(
            f"{k} [had|wore] a <colour> {SHAWLS} [with a patch of <colour>|full of holes|trimmed with <colour>|that "
            f"reached to the ground], and [carried a stick of <tree> wood|carried a bundle on {his} back|had a basket "
            "of <flower> on one arm|wore a feather behind one ear|wore wooden shoes].",
            f"{hers} [hair was|eyebrows were|face was] [as white as snow|as brown as a nut|as grey as ashes|as red as "
            f"a fox], and {his} eyes [twinkled|were as blue as the sky|were kind|were like two sparks|missed nothing].",
            f"{k} was [tall and thin|short and round|as thin as a rake|bent like a <tree> in the wind|so small that "
            f"one might have missed {{%s.him}}], and [smelled of <smell>|spoke in a voice like a <bird>|had a laugh "
            "like a creaking gate|hummed a tune]." % key)


def house(s):
    """A sentence on the hero's home."""
    h = s.values["h"]
    if h.animal:
        s.say(
            "it was a [snug|small|tidy|dry|warm] place, with a bed of [moss|dry leaves|hay|feathers|thistledown] and a "
            "[round|narrow|hidden] door, and it smelled of <smell>.",
            "from there one could see [the <tree> on the hill|a field of <flower>|the roofs of {town}|the mill and the "
            "brook|the road to {town}], and hear [the <bird>|the <beasts>|the bells of {town}|the water].",
            "inside it was [warm|dry|dark|cosy], and there was [room for two|just room to turn round|always something "
            "to nibble|a shelf of roots for the nuts].")
    else:
        s.say(
            "the house had [two windows|one window|three small windows|a low roof|a crooked chimney] and a <colour> "
            "door, and beside it stood [a <tree>|a bench|a rain-barrel|a bush of <flower>].",
            "from the window one could see [the <tree> on the hill|a field of <flower>|the road to {town}|the mill and "
            "the brook|the <beasts> in the meadow].",
            "there was a [table|clock|cupboard|bed] of [<tree> wood|painted wood] in the room, and [it always smelled "
            "of <smell>|a cat slept by the hearth|pots of <flower> stood on the sill].")


WILDS = words(
    "at the edge of a great forest, at the foot of a high mountain, beside a wide river, in a green valley, near the "
    "old mill, not far from a small farm, by the side of the king's highway, on an island in a lake, beyond the moor, "
    "between the forest and the sea, at the end of a long lane, on the border of a wide heath, where two roads meet, "
    "in the far north, at the top of a winding path, on a sunny slope, in the middle of an orchard, behind the garden "
    "of a castle, in a quiet corner of the wood, where the brook leaves the hills, at the bottom of a wild garden, "
    "among the rushes by the lake, under the roots of the great trees, near a village by the sea")


# -- descriptions ------------------------------------------------------------------------------------------------

def scenery(s, probability=1.0):
    if s.chance(probability):
        s.say(*[text + "." for text in SCENES[s.season if s.season == "winter" or s.chance(0.65) else "any"]])


HABITS = {
    "kind": [
        "{h~} could not bear to see anyone hungry", "{h~} never passed a beggar without a friendly word",
        "if a bird fell from its nest, it was {h} who put it back",
        "{h~} would share {h.his} last crust with a stray dog", "{h~} had a soft heart and a ready hand",
        "whoever was in trouble came to {h}, for {h~} always had time to help",
        "nobody had ever heard a cross word from {h}"],
    "brave": [
        "{h~} was afraid of nothing but thunder", "{h~} never turned back from a thing once it was begun",
        "{h~} was small, but {h.his} heart was big", "{h~} would rather try and fail than sit still and sigh",
        "dark nights and deep water did not trouble {h~him}"],
    "clever": [
        "{h~} was always asking how things were made", "{h~} thought twice before {h.he} spoke once",
        "{h~} kept {h.his} eyes and ears open", "{h~} could find a way out of any trouble",
        "though {h.he} was small, {h.his} wits were as sharp as needles", "{h~} noticed what other folk passed by"],
    "lonely": [
        "{h~} had nobody to play with",
        "all day long {h~} talked to {h.self}, because there was no one else to talk to",
        "the evenings were long and silent for {h}", "{h~} often wished for a friend",
        "when the others ran by, hand in hand, {h~} looked after them and sighed"],
    "vain": [
        "{h~} thought that nobody in the world was so fine as {h.he}",
        "{h~} spent the whole day admiring {h.self} in the [pond|water-butt|window|brook]",
        "{h~} would not speak to anyone whose coat was plain", "{h~} loved nothing so well as to be praised",
        "{h~} held {h.his} head so high that {h.he} often stumbled"],
    "lazy": [
        "{h~} liked nothing better than to lie in the sun", "when there was work to do, {h~} could never be found",
        "tomorrow was the word that {h} liked best", "{h~} would sooner go hungry than fetch a spoon"],
    "timid": [
        "{h~} was afraid of the dark, of thunder, and even of geese", "at every little noise {h~} hid {h.his} head",
        "{h~} never went farther than the gate alone", "a falling leaf was enough to make {h} jump"],
    "greedy": [
        "{h~} always took the largest piece", "whatever {h~} had, {h.he} wanted more",
        "{h~} could not see a thing without wishing it {h.his} own",
        "{h~} counted {h.his} pennies every night and never gave one away"],
    "poor": [
        "there was often nothing in the cupboard but a crust",
        "in winter the snow blew through the cracks in the wall",
        "there was one goat and a few hens, and that was all", "{h~} had no shoes to {h.his} feet",
        "some days there was not even salt for the soup"],
}
HABITS = {trait: [line + "." for line in lines] for trait, lines in HABITS.items()}


def opening(s, h, trait=None, m=None, scene=0.5):
    """Who the hero is, where, with whom, and what {h.he} is like."""
    s.bind(h=h)
    dweller = "{h.intro}"
    if h.animal:
        s.bind(setting=s.rng.choice(WILDS))
        s.bind(home=h.home)
        s.say(
            f"<once> there was {dweller} who lived in a {{home}}.",
            f"[in|deep in] a {{home}} [there lived|lived] {dweller}.",
            f"{{setting}}, in a {{home}}, there lived {dweller}.",
            f"there was once {dweller} who had [a home of {h.his} own|{h.his} home] in a {{home}}.",
            f"{dweller} lived {{setting}}, in a {{home}}.", f"<once>, {{setting}}, there lived {dweller}.",
            f"have you heard of the {h.noun} who lived {{setting}}? this is the story of {dweller}, who had a {{home}} "
            "there.")
    else:
        s.say(
            f"<once> <lived> {{setting}} {dweller}.", f"there was once {dweller} who lived {{setting}}.",
            f"{{setting}} there lived {dweller}.", f"<once>, {{setting}}, there lived {dweller}.",
            f"in the village of {{town}}, {{setting}}, there lived {dweller}.", f"{dweller} lived {{setting}}.",
            f"not far from {{town}}, {{setting}}, there was once {dweller}.",
            f"<once> there was {dweller}, and {h.he} lived {{setting}}.",
            f"in the days when [wishes still came true|animals could speak|the king's grandfather was young|wolves "
            f"still walked on the roads], there lived {{setting}} {dweller}.")
    if m is not None:
        s.bind(m=m)
        s.say(
            "{h~} lived there with {h.his} {m.noun}, and [they were poor but content|they had enough to eat and no "
            "more|the two were very fond of each other|there was always a song in the house|they wanted for nothing "
            "but money|they never quarrelled].",
            f"{h.his} {m.noun}, with whom {{h~}} lived, [was getting old|worked from morning till night|told the best "
            "stories in the world|could bake and mend and sing|knew the name of every star].",
            f"[there were only the two of them|they were two in all]: {{h}} and {h.his} {m.noun}, who [was <work> most "
            f"of the time|made the best <supperdish> in {{town}}|had seen better days].",
            f"{h.his} {m.noun} [kept bees|kept a cow and three hens|spun wool|mended nets|baked bread|made "
            f"baskets|sold <flower> at the market|gathered herbs|knitted stockings], and {{h}} [helped as well as "
            f"{h.he} could|carried the basket|was never far away|did the rest].",
            f"{{h~}} and {h.his} {m.noun} shared [all they had|everything|one bed and one bowl|their work and their "
            "bread].")
    if trait:
        s.say(*HABITS[trait])
        if s.chance(0.3):
            s.say(*HABITS[trait])
    else:
        s.maybe(0.5, "everyone called {h~him} {good}, and so {h.he} was.", "{h~} was as {good} as the day is long.",
                "there was not a more {good} {h.noun} [for miles around|in the whole valley|under the sun].")
    if s.chance(0.3):
        looks(s, "h")
    if s.chance(0.35):
        house(s)
    if s.chance(0.35):
        s.say(
            ("[you could see {h~him}|{h} was to be seen] [every morning|on most days|from spring to autumn] <work>."
             if not h.animal else
             "[every morning|on most days|in fine weather] {h} [sat before the door|went out early|was up with the "
             "<bird>] and [looked for something to eat|sang a little|watched the <beasts> in the meadow]."),
            ("[in the garden|beside the door|under the window] [grew|there were] <flower> and <flower>, and [a <tree> "
             "gave shade|a <bird> sang there in the morning|{h} watered them every evening]."
             if not h.animal else
             "[before the door|all round|close by] grew <flower> and <flower>, and a <tree> [gave shade|kept off the "
             "wind]."),
            ("[at this time|in this story] {h~} was [just [six|seven|eight|nine|ten] years old|no taller than the "
             "table|old enough to work and young enough to play]."
             if h.noun in ("boy", "girl") else
             ("[the neighbours|all the neighbours], the <beasts> and the <bird>, [knew {h}|liked {h~him}|had known {h} "
              "for years]."
              if h.animal else
              "[the whole village|everyone] knew {h}.")))
    scenery(s, scene * 0.6)


# -- on the way --------------------------------------------------------------------------------------------------

def set_out(s):
    s.say(
        "so {h~} [set out|started|set off|went on {h.his} way] [at once|that very hour|without delay|before the dew "
        "was dry|with a light heart].",
        ("{h~} [put on {h.his} cap and|took a stick and|drank a mouthful of water and|said good-bye and] set out."
         if not s.values["h"].animal else
         "{h~} [shook the dust from {h.his} coat|looked back once|said good-bye|took a deep breath] and set out."),
        "off {h~} went, [over the hill|down the lane|along the hedge|past the last houses|through the gate|across the "
        "fields].",
        "{h~} [did not wait to be told twice|lost no time], but [set out|started off|was on {h.his} way] [at once|in a "
        "moment].",
        "the [sun|moon|morning star] was [still low|just rising|shining brightly] when {h} set out.")


def walk(s):
    s.say(
        "{h~} {h.went} [on and on|a long way|for many a mile|up hill and down dale|through {bloom} and high grass].",
        "{h~} {h.went} past [the mill|three farms|a well|a stone cross|the old {tree}|a field of {bloom}|a flock of "
        "geese] and [over a little bridge|through a gap in the hedge|round the foot of a hill|down into a hollow].",
        "the [path|road|track|way] [led|wound|went|ran] [between high hedges|under a line of old trees|along the "
        "water|up and up|over the heath|through a field of {bloom}], and {h~} followed it.",
        "[first|to begin with] {h~} {h.went} [through the {bloom}|along a ditch|past a haystack], then [over a "
        "wall|across a plank bridge|up a steep bank], and then [straight on|on and on|down a long lane].",
        "{h~} [sang a little song|counted {h.his} steps|whistled|looked at everything|stopped only once to drink] as "
        "{h.he} {h.went} along.",
        "[mile after mile|step by step|for an hour or more|all the morning] {h~} {h.went} on, and met [nobody|not a "
        "soul|only an old sheep|nothing but a flock of crows].")
    scenery(s, 0.45)
    if s.chance(0.35):
        interlude(s)


SONGS = [
    '"[Over the hill and down the lane, out in the sun and out in the rain|One foot, two foot, heel and toe, over the '
    'hills and away I go|The road is long and the day is new, and I have a pair of feet or two]!"',
    '"[Hey for the wind and ho for the weather, two little feet go well together|Nobody knows what the road will bring, '
    'but a bird in a bush and a song to sing|Left, right, left, and never look behind, somebody lost is somebody to '
    'find]!"']


def interlude(s):
    """A small thing on the way that changes nothing but the hero's spirits, or the bread in the pocket."""
    kind = s.pick(["rain", "water", "crossroads", "song", "market", "well", "people", "stars", "stumble"])
    s.br()
    if kind == "rain":
        s.say(
            "[<soon>|all at once|then] it began to rain, [first a drop, then ten, then a thousand|and the rain came "
            "down in strings|so hard that the road became a brook]. {h~} crept [under a cart|into a hollow "
            "<tree>|under a bridge|beneath a thick <tree>] and waited [till the sky cleared|until a <bird> began to "
            "sing again|and counted the drops].")
        s.maybe(
            0.6,
            "when the sun came out, [a rainbow stood over the fields|every leaf was shining|the whole world smelled of "
            "<smell>].")
    elif kind == "water":
        s.say(
            "[<soon>|farther on] there was a [stream|brook] across the way, and no bridge. {h~} [jumped from stone to "
            "stone|found a fallen <tree> and crossed on it|looked for a shallow place and waded], and [only one foot "
            "got wet|so came safely to the other side].")
    elif kind == "crossroads":
        s.say(
            "at a cross-roads {h} [did not know which way to take|stood still]. [one road was broad and smooth, the "
            "other narrow and stony|to the left it smelled of <smell>, to the right of <smell>]. {h~} [tossed a "
            "pebble|watched which way the <bird> flew|asked a boy with some <beasts>], and went to the [right|left].")
    elif kind == "song":
        s.say("to keep up {h.his} spirits {h~} made a song:")
        s.say(*SONGS)
    elif kind == "market":
        s.say(
            "the way led through a town where it was market day. there were [<beasts> and <beasts>|cheeses and "
            "cloth|pots and pans] for sale, and a <trade> [shouted|sang|rang a bell], and {h} [looked at everything "
            "and bought nothing|had never seen so many people|was glad to get out again].")
    elif kind == "well":
        s.say(
            "beside the road there was a [well|spring|trough], [cool and clear|with ferns about it|under a <tree>]. "
            "{h~} drank, and washed {h.his} face, and felt [fresh again|<happyas>].")
    elif kind == "people":
        s.say(
            "a <trade> was <work> [before the door|by the road|in the yard], and nodded to {h}.",
            "some children were <play> [by the road|near a barn], and waved as {h} went by.",
            "in a garden sat a <trade>'s wife, <work>, and wished {h} good luck.")
    elif kind == "stars":
        s.say(
            "when it grew dark {h} [sat down on a wall|lay down in the grass] and [counted the stars|looked for the "
            "brightest star|watched the moon come up over the <tree>], and [was not lonely|thought of home|soon fell "
            "asleep]. [<nextday> the way went on|in the morning {h~} went on].")
    else:
        s.say(
            "once {h} [stumbled over a root|slipped on a wet stone|ran into a thorn bush] and [said 'oh!'|had to "
            "laugh|sat down with a bump], but [got up again|it did not matter much].")


def night(s, where=None):
    s.say(
        "the sun [went down|sank behind the hills|set], and [the stars came out|it grew dark|the owls began to "
        "call|the moon rose over the trees].",
        "[evening came|night fell|it grew dark], and {h~} [lay down|crept|curled up] [under a {tree}|beneath a "
        "{tree2}|in a heap of dry leaves|in the hay|among the ferns] and [slept|fell asleep|slept soundly].",
        "by the time it was dark {h} was so tired that {h.he} [lay down|slept] [under a hedge|beneath a {tree}|on a "
        "bed of moss|beside a haystack].",
        "that night {h~} slept [in a barn|under the stars|beneath a {tree}|on a heap of straw], and [dreamed of "
        "home|never woke till morning|the moon looked down on {h~him}|heard the owls call].")


def meet(s, x="x", doing=None):
    """The hero comes upon the character bound to x."""
    doing = doing or s.pick([
        "sitting on a stone", "resting by the roadside", "standing under a tree", "coming slowly along the road",
        "sitting by a spring", "leaning on a gate",
        "sitting on a log" if s.values[x].animal else "gathering sticks"])
    s.say(
        f"there {{h}} [met|found|came upon|saw] {{{x}.a}}, {doing}.",
        f"[all at once|suddenly|<soon>] {{h~}} saw {{{x}.a}} {doing}.",
        f"[<soon>|at the next turning|a little farther on] {{h~}} came upon {{{x}.a}} {doing}.",
        f"and whom should {{h~}} see but {{{x}.a}}, {doing}!",
        f"[by the way|beside the path|a little way off] {{h}} found {{{x}.a}}, {doing}.")
    if s.chance(0.5):
        looks(s, x)


def homecoming(s, m=None):
    if m is not None:
        s.say(
            "{m} [was standing at the door|ran out to meet {h~him}|had kept the supper warm|had lit a candle in the "
            "window|saw {h~him} coming from far off], and [how they kissed and laughed|what a welcome there was|they "
            "both talked at once|they sat down together by the fire]!",
            "[at home|in the kitchen] {m} [was waiting|had supper ready|had not slept for worry], and {h} had to tell "
            "[it all|the whole story|everything] from the beginning.",
            "{m} [wept for joy|could hardly believe it|clapped for joy|threw both arms round {h~him}] when {h} came in "
            "at the door.",
            "they had {supper} that night, and {h} told {h.his} {m.noun} [everything|the whole story|all that had "
            "happened].")
    else:
        s.say(
            "how good it was to be home again!", "{h~} [shut|closed] the door, and was [glad|happy] to be home.",
            "that night {h~} had {supper} for supper, and slept [in {h.his} own bed|as sound as a top|without a "
            "dream].",
            "[the stars were shining|the moon was up|the lamps were lit] when {h} came home.")


LESSON = (
    "so you see that|it is true that|and everyone who heard it said that|old people say that|they say in {town} that|"
    "and the moral is that|remember that|from this one may learn that|the proverb says that|and the <trade> of {town} "
    "used to say that|there is an old saying that|my grandmother always said that")


def ending(s, *morals):
    """The last paragraph: how it was afterwards, and perhaps what may be learned."""
    h = s.values["h"]
    s.p(
        "and from that day on {h} was [never lonely|never sad for long|happier than before|the happiest {h.noun} in "
        "the land].",
        "and {h} [remembered that day|never forgot it] as long as {h.he} lived.",
        "so {h} lived [happily|in peace|in plenty|in comfort and in peace] [ever after|to the end of {h.his} days|for "
        "many a year].",
        "and if {h.he} has not moved away, {h} lives there still.",
        "and that is [the end of the story|how it all happened|the story of {h}|all there is to tell].",
        "{h} had <supperdish> that evening, and [was <happyas>|had two helpings|fell asleep over it].",
        "{h} was <happyas>, and [slept soundly that night|sang all the next day|told the story to everyone who would "
        "listen].",
        ("[years afterwards|when {h~} was old|long after that], {h} [would tell the story|used to tell it all] [under "
         "the <tree>|by the stove|on winter nights], and the children [never grew tired of it|always wanted to hear it "
         "again]."
         if not h.animal else
         "[long after that|many springs later] {h} still told the story [under the <tree>|by moonlight], and the young "
         "ones [never grew tired of it|always wanted to hear it again]."),
        "the <flower> [bloomed|came up] again by the door, [the <bird> sang in the <tree>|the sun shone], and {h} was "
        "[content|<happyas>].",
        "people [still tell the story|tell of it to this day|remember it still] [on winter evenings|by the fire|when "
        "the nights are long].",
        ("there was [singing|dancing|feasting|laughter] in the house that night, and {h} laughed [loudest|most] of "
         "all."
         if "m" in s.values and not h.animal else
         "that night {h} slept [soundly|without one bad dream|better than a king], and the [stars|moon] looked on."))
    if morals and s.chance(0.65):
        learned = h.name or "the " + h.noun
        s.say(*[f"[{LESSON}|{learned} learned that] {moral}." for moral in morals])


def hero(s, animals=0.4, gender=None):
    return animal(s, gender) if s.chance(animals) else child(s, gender)
