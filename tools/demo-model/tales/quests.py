"""Plots of going out: something is lost, helped creatures help in turn, tasks are set, a way home is sought."""
from tales.acts import (
    Who, child, elder, ending, fresh, hero, homecoming, meet, night, opening, parent, place, scenery, set_out, thing,
    used_nouns, walk)

# helper | its plight | what the hero does | the skill it names later
HELPERS = {
              "ant": (
    "whose heap had been flooded by the [rain|brook]||whose heap had been trodden down by a cow",
    "laid a dry twig across the water, so that all the ants could cross||built a wall of pebbles round the ant-heap",
    "sort"),
              "sparrow": (
    "with one wing caught in a thorn bush||with one foot tangled in a thread",
    "bent back the thorns and set the bird free||loosened the knot and set the bird free", "sort"),
              "dove": (
    "caught in a [fowler's|hunter's] net||with a [broken|lame] wing",
    "[cut the net|undid the knots one by one] and let the dove fly||bound up the wing with a strip of linen", "sort"),
              "fish": (
    "gasping on the [dry sand|bank|stones]||in a [bucket|basket] that a fisherman had left",
    "[carried it back|put it gently back] into the water||[tipped it|let it slip] into the river again", "dive"),
              "salmon": (
    "lying in a pool that was drying up||fast between two stones",
    "carried it in both arms to the deep water||rolled away the stone and let it swim", "dive"),
              "otter": (
    "with [its tail|one paw] fast between two stones||caught in a fisherman's net",
    "lifted the stone and set the otter free||cut the net and let the otter go", "dive"),
              "wild duck": (
    "whose eggs had rolled from the nest||whose nest was sinking among the reeds",
    "put back the eggs one by one||tied the reeds together and made the nest fast", "dive"),
              "raven": (
    "that had fallen [from its nest|out of a tall tree]||that was starving in the cold",
    "put it back among the branches||gave it something to eat", "fly"),
              "eagle": (
    "with an arrow in its wing||with one foot in a trap",
    "drew out the arrow and bound up the wing||opened the trap and let the eagle fly", "fly"),
              "lark": (
    "whose nest lay right before the mowers||whose little ones were crying for food",
    "carried the nest to the hedge||found worms for the little ones", "fly"),
              "heron": (
    "frozen [by one leg|fast] in the ice of a pond", "[broke the ice with a stone|breathed on the ice till it melted]",
    "fly"),
              "mouse": (
    "swimming round and round in a [pail of milk|bucket of water]||shut up in a trap",
    "[held out a straw and let it climb out|tipped over the pail]||opened the little door of the trap", "gnaw"),
              "squirrel": (
    "shut in a [cage|box trap]||with its tail caught in a [split branch|crack]",
    "[opened the door|broke the bars with a stone]||pulled the wood apart until the tail was free", "gnaw"),
              "rat": (
    "caught by the tail in a [door|trap]||on a plank in the middle of the flood",
    "lifted the bar and let it go||drew the plank to the bank with a long stick", "gnaw"),
              "bee": (
    "struggling in a spider's web||struggling in the water of a ditch",
    "freed it with a straw||held out a leaf for it to climb upon", "find"),
              "butterfly": (
    "with wings so [wet with rain|heavy with dew] that it could not fly",
    "[set it upon a sunny leaf|dried it with warm breath]", "find"),
              "old dog": (
    "turned out of doors because it was [too old to bark|too lame to hunt]||with a thorn in its paw",
    "[shared a meal with it|found it a warm corner in a barn]||drew the thorn out", "find"),
              "mole": (
    "lying on its back in the [hot sun|middle of the road]||that had lost its way above the ground",
    "turned it over and carried it to the soft earth||led it back to its tunnel", "dig"),
              "badger": (
    "with a thorn in its foot||with a great stone across its door", "drew out the thorn||rolled the stone away", "dig"),
              "hare": (
    "caught in a snare||with one foot fast in a hedge",
    "loosened the wire and let it run||parted the twigs and let it run", "run"),
              "stag": (
    "with [its horns|its antlers] tangled in the branches||up to the neck in a bog",
    "climbed up and bent the branches apart||laid down branches, so that it could climb out", "run"),
              "white horse": (
    "with a stone in its hoof||with a load too heavy for its back",
    "took out the stone||lightened the load and brought it water", "run"),
              "owl": (
    "that could not see in the bright sun and was mocked by the crows||with its feet stuck fast in bird-lime",
    "drove off the crows and led it into the shade||washed its feet until they came free", "see"),
              "cat": (
    "that was shut in an empty house||up a tree and afraid to come down",
    "opened the window and called it out||climbed up and brought it down", "see"),
          }
COLD = {"heron"}
WARM = {"butterfly", "bee", "mole", "lark", "ant"}
# skill: (the task as it is told, how hard it is, how the helper does it, the end of it)
TASKS = {
            "sort": [
    (
        "to pick a sack of [millet|poppy seed|barley] out of a heap of [ashes|sand|sawdust] before morning",
        "no ten people could have done it in a week",
        "came with all its kin, thousands and thousands, and they [picked and carried|worked in long rows|picked and "
        "sorted] the whole night",
        "by dawn the seed lay [clean in its sack|in one heap, and the rest in another], and not a grain was missing"),
    (
        "to sort [three|four|seven] kinds of grain that had been mixed in one great bin",
        "the grains were all alike in the dim light",
        "called its brothers and sisters, and they [ran|hopped|hurried] to and fro until each grain was in its own "
        "heap",
        "in the morning there stood the heaps in a row, each of one kind")],
            "dive": [
    (
        "to bring back the [queen's ring|golden cup|crown] that had fallen into the [lake|sea|deep well]",
        "no one knew how deep the water was",
        "[dived|went down] into the dark water, and was gone so long that the bubbles stopped rising",
        "up it came at last with the treasure shining wet, and laid it on the bank"),
    (
        "to fetch the key of the treasure house from the bottom of the [river|moat|mill-pond]",
        "the water was black and cold",
        "slipped into the water and searched [among the weeds|under every stone|in the mud]",
        "before noon the key lay upon the grass")],
            "fly": [
    (
        "to fetch a [golden apple|silver leaf|green twig] from the top of the glass mountain",
        "the sides of the mountain were as smooth as ice",
        "spread its wings and rose [higher and higher|in great circles] till it was only a speck in the sky",
        "down it came out of the clouds with the prize in its beak"),
    (
        "to hang a [lantern|wreath|flag] on the very top of the [church|castle] tower, where there were no stairs",
        "the wall had neither ladder nor ivy",
        "took the string in its beak and flew up past the [bells|swallows|highest window]",
        "everyone in the town could see it hanging there")],
            "gnaw": [
    (
        "to open a [chest|cage|net] that was tied with a hundred knots of [ship's rope|wet rope|leather]",
        "no knife was allowed, and no fingers could loosen such knots",
        "sat down and gnawed, [knot after knot|strand after strand], till its teeth were hot",
        "the last rope fell apart, and the lid sprang open"),
    (
        "to fell the [dead oak|old pine] without an axe or a saw", "the trunk was thicker than a barrel",
        "called a hundred cousins, and they gnawed round and round the trunk", "with a great crash the tree came down")],
            "find": [
    (
        "to choose the true [princess|rose|crown] out of twelve that looked exactly alike",
        "there was not a hair of difference between them",
        "went from one to the other, and [at the seventh|at the third|at the ninth] it stopped and would not leave",
        "it was the right one, and everybody clapped"),
    (
        "to find the [shepherd's lost child|king's lost glove|queen's lost lap-dog] in the great forest",
        "the forest was so wide that it took three days to cross",
        "put its head down and went to and fro, and [cast about|circled|searched] until it had found the trace",
        "before the sun went down the lost one was found")],
            "dig": [
    (
        "to bring [water|a stream] to the dry [garden|court] of the castle in one night",
        "the ground was as hard as brick", "dug [a tunnel|a long ditch], and the earth flew out behind",
        "when the sun rose, there was clear water bubbling over the stones"),
    (
        "to find the chest that the old king had buried [under the hill|beneath the meadow]",
        "no one living knew the place", "sniffed the ground and began to dig, [deep and deeper|down and down]",
        "at midnight the claws scratched upon iron, and there was the chest")],
            "run": [
    (
        "to carry a letter to the [king's brother|queen of the next land] and be back before the hour-glass ran out",
        "it was fifty miles there and back",
        "ran like the wind, over [hedges and ditches|stock and stone|hill and dale]",
        "the last grain had not fallen when the answer lay on the table"),
    (
        "to bring a flask of [water from the end of the world|water from the ice spring] while the soup was still hot",
        "the best riders of the land had failed",
        "was off like an arrow, and [the dust stood up like a wall|no eye could follow]",
        "the soup was still steaming when the flask was set down beside it")],
            "see": [
    (
        "to count the [silver pieces|barrels] in the cellar, in the dark, without any lamp",
        "it was as black as the inside of a boot",
        "opened its great round eyes and counted, for to such eyes the darkness is as good as day",
        "the number was right to the very last one"),
    (
        "to keep watch all night over the [golden pear tree|king's geese] and say who was the thief",
        "there was neither moon nor star", "sat without a sound and watched with eyes that see in the dark",
        "in the morning it could tell that the thief was nothing but a [marten|magpie|weasel], and where its hole was")],
        }


def find_helper(s, key="x", skills=None):
    """The hero meets a creature in trouble and helps it; it promises to help. Returns its skill."""
    wrong_season = WARM if s.season == "winter" else COLD
    names = [n for n, (_, _, skill) in HELPERS.items()
             if n not in used_nouns(s) | wrong_season and (skills is None or skill in skills)]
    noun = s.rng.choice(names)
    plight, rescue, skill = HELPERS[noun]
    plight, rescue = s.rng.choice(list(zip(plight.split("||"), rescue.split("||"))))
    x = Who(
        noun, "n",
        adj=(s.rng.choice(["little", "poor", "old", "young", ""])
             if not noun.startswith(("old", "wild", "white")) else
             ""),
        animal=True)
    s.bind(**{key: x})
    s.br()
    s.say(
        f"[<soon>|a little farther on|by the wayside|at a bend in the road|where the path crossed a ditch] {{h~}} "
        f"[saw|found|came upon] {{{key}.a}} {plight}.",
        f"[as|while] {{h~}} {{h.went}} along, {{h.he}} [heard a small cry|heard someone weeping|saw something move]. "
        f"it was {{{key}.a}} {plight}.",
        f"[by a hedge|under a {{tree}}|not far from there|beside the path] {{h~}} [saw|found] {{{key}.a}} {plight}.")
    s.talk(
        x, "help me, [I beg you|good friend|kind {h.noun}], or I [must die|am lost]!",
        "oh, [please|pray] help me! [everyone passes by|nobody hears me|I have called all day].",
        "[kind|dear] {h.noun}, do not leave me [here|like this]!", tone="beg")
    if s.chance(0.4):
        s.talk(
            s.values["h"], "poor thing! [I will help you|hold still|do not be afraid].",
            "[wait a little|be still], and I will [see what I can do|help you].", "of course I will help you.",
            tone="reply")
    s.p(
        f"{{h~}} was in a hurry, but {{h.he}} [stopped|knelt down|had pity]. {{h.he}} {rescue}.",
        f"{{h~}} did not think twice. {{h.he}} {rescue}.", f"so {{h}} {rescue}.",
        f"{{h~}} [put down {{h.his}} bundle|knelt in the wet grass|set to work] and {rescue}.")
    s.talk(
        x, "thank you! if ever you need me, [call my name three times|whistle|think of me], and I will come.",
        f"I am [small|only {{{key}.a}}|poor], but I do not forget. [when you are in need, call me|call me when you "
        "need help].",
        "[who knows? A day may come when I can help you.|perhaps a day will come when I can help you.] Only call!",
        "[you have saved my life|you have been good to me]. One day I will [repay you|do as much for you].")
    return skill


def task(s, key, skill, setter, number):
    """setter gives a task; the helper bound to key does it."""
    what, hard, deed, end = s.rng.choice([t for t in TASKS[skill] if t[0] not in s.used])
    s.used[what] = 1
    h, x, judge = s.values["h"], s.values[key], s.values[setter]
    first = ["the first task was", "first of all {h~} was told", "for the first task {h} had"] if number == 0 else \
        ["the second task was", "the next day {h} was told", "for the second task {h} had"] if number == 1 else \
        ["the third task was the hardest:", "last of all {h} was told", "for the third task {h} had"]
    s.p(
        *[f"{f} {what}. [it seemed a hopeless thing, for|that was hard enough, for|no one had ever done it, for|how could "
          f"that be done? for] {hard}." for f in first])
    s.say(
        "{h~} sat down and [did not know what to do|hid {h.his} face|was ready to weep].",
        "{h} [tried and tried|looked at it from all sides], but it was no use.", "{h} thought that all was lost.",
        "{h} [sighed|grew pale|lost heart] when {h.he} heard it.")
    name = f"the {x.noun}"
    s.say(
        f"then {{h.he}} [remembered|thought of] {name}, and called.",
        f"but all at once there was {name}, [as if it had heard|just in time|and was not afraid at all].",
        f"then {name} came, for it had not forgotten.", f"just then {name} [came|appeared], as it had promised.")
    if s.chance(0.5):
        s.talk(
            x, "do not be [sad|afraid|troubled]. [leave that to me|that is easy for me|lie down and rest]!",
            "you helped me, and now I will help you.", "is that all? [dry your eyes|cheer up]!",
            "[why do you sit there so sadly|what is the trouble]? For my kind that is nothing.", tone="glad")
    s.p(
        f"the {x.noun} {deed}. {end}.", f"so it was done: the {x.noun} {deed}, and {end}.",
        f"and the {x.noun} {deed}. {end}.")
    s.talk(
        judge,
        *[
            "that was well done, but [it was only the first|there are two tasks more|do not rejoice too soon].",
            "hm! [let us see how you do tomorrow|anyone may be lucky once]."]
         if number == 0 else
         ([
            "[I should not have thought it.|who has helped you?] But there is one task more.",
            "twice you have done it. [the third time is the hardest|now comes the last]."]
          if number == 1 else
          [
            "you have done all that I asked, and [I will keep my word|I am content].",
            "[there is nobody like you in the land|that is enough]. What I promised is yours."]))


RULERS = [
    ("king", "m"), ("queen", "f"), ("old king", "m"), ("duke", "m"), ("giant", "m"), ("witch", "f"), ("enchanter", "m"),
    ("sea king", "m"), ("mountain queen", "f")]
PRIZES = [
    "a purse that is never empty", "a white pony and a silver saddle", "a house with a garden of its own",
    "a cow for every finger and a field to feed them in", "a medicine that heals every sickness",
    "as much gold as a donkey can carry", "freedom for every prisoner in the castle", "the little farm by the river"]


def three_trials(s):
    h = child(s) if s.chance(0.75) else s.rng.choice([hero(s)])
    m = parent(s, h)
    s.title = s.pick(
        [
            f"{h.name} and the Three Tasks", "The Three Tasks", f"{h.name} and the Grateful Beasts",
            f"How {h.name} Won the Prize", f"The {h.noun} who was kind"])
    opening(s, h, s.pick(["kind", "brave", "poor"]), m)
    noun, gender = s.rng.choice(RULERS)
    ruler = Who(noun, gender)
    prize = s.rng.choice(PRIZES)
    s.bind(k=ruler, prize=prize)
    s.p(
        "<oneday> {h} heard that the {k.noun} had promised {prize} to anyone who could do three hard tasks.",
        "now it was told in every market place that the {k.noun} would give {prize} to whoever could do three tasks.",
        "<oneday> a [pedlar|rider|herald] came by with news: whoever could do three tasks for the {k.noun} should have "
        "{prize}.")
    s.talk(
        h, "dear {m.noun}, let me go and try!",
        "I will go and try my luck. We could [live on that all our lives|do with such a thing].",
        "others have tried. Why should not I?", tone="glad")
    s.talk(
        m,
        "go, then, [and be kind on the way|and keep a good heart|with my blessing]. kindness [costs nothing|opens more "
        "doors than gold].",
        "[the road is long|many have failed], but go, and help those who need help.", tone="reply")
    s.br()
    set_out(s)
    skills, count = [], 3
    keys = ["x", "y", "z"]
    for i in range(count):
        if s.chance(0.5):
            s.br()
            walk(s)
        skills.append(find_helper(s, keys[i], [k for k in TASKS if k not in skills]))
        if i == 1 and s.chance(0.4):
            s.br()
            night(s)
    s.p(
        "<soon> {h} came to the [castle|house|tower] of {k}, [and knocked at the gate|and was led into the hall|which "
        "stood high upon a rock].",
        "on the third day {h} stood before {k}.",
        "at last {h} saw the [roof|towers] of the place where {k} lived, and {h.went} in.")
    s.talk(
        ruler,
        "so you want {prize}? Then do [what I bid you|three things for me]. [if you fail, you must work in my kitchen "
        "for a year|others, bigger than you, have failed].",
        "[you are very small|you look very young]. But try, if you like!", tone="say")
    order = list(range(count))
    s.rng.shuffle(order)
    for number, i in enumerate(order):
        task(s, keys[i], skills[i], "k", number)
    s.p(
        "so {h} [got|was given] {prize}, and [went|hurried] home with it.",
        ("{k} kept the promise, and {h} went home with {prize}."
         if "freedom" not in prize else
         "{k} kept the promise, and the gates were opened."))
    homecoming(s, m)
    ending(
        s, "kindness is never lost", "one good turn deserves another",
        "it is well to help the small, for the small can do great things", "no friend is too small to help")


SMALL_AND_BRIGHT = {
    "key", "ring", "thimble", "bell", "button", "spoon", "needle", "brooch", "penny", "locket", "marble", "shell",
    "pebble", "feather", "seed", "necklace", "watch"}


def lost_thing(s):
    h = hero(s)
    m = parent(s, h) if s.chance(0.6) else None
    t = thing(s)
    s.bind(t=t, h=h)
    s.title = s.pick(
        [
            f"The lost {t.noun}", f"{h.name} and the {t.bare}", f"How {h.name} lost the {t.noun}", f"The {t.bare}",
            f"Who took the {t.noun}?", f"{h.name} seeks the {t.noun}"])
    opening(s, h, s.pick(["clever", "brave", "kind", None]), m, 0.3)
    s.say(
        "[of all the things {h~} had|of all {h.his} things], {h.he} loved best {t.a}, which [had once been {h.his} "
        "grandmother's|{h.his} father had brought home from the sea|a pedlar had given {h~him} at the fair].",
        "{h~} had {t.a}, and [kept it on a nail by the door|carried it everywhere|put it under {h.his} pillow at "
        "night].",
        "there was one treasure in the house, {t.a}, [and {h} took good care of it|which hung beside the door|which "
        "nobody else might touch].")
    s.p(
        "<oneday> {h} [looked for|wanted] {t}, and it was gone.",
        "<oneday> {t} was [gone|nowhere to be found|missing].", "then, <oneday>, {h} woke up and could not find {t}.")
    s.say(
        "{h~} looked [under the bed, behind the door, and in the garden|in every corner and under every stone|high and "
        "low, inside and out], but [it was not there|there was no sign of it|it was no use].",
        "{h~} turned out every [box|basket|corner], and [shook every blanket|looked up the chimney|even looked in the "
        "soup pot], but it was not to be found.")
    if m:
        s.talk(h, "{m.noun}, have you seen my {t.bare}?", tone="ask")
        s.talk(
            m,
            "no, dear. [where did you have it last|did you leave it out of doors]? Go and ask [the neighbours|those "
            "who live near by]. Somebody must have seen it.",
            "I have not. But [what is lost can be found|things do not walk away by themselves]. Go and ask about.",
            tone="reply")
    s.br()
    set_out(s)
    places = [place(s, "field")]
    w1 = witness(s, "w", places[0])
    if t.noun in SMALL_AND_BRIGHT:
        thief = Who(s.rng.choice(["magpie", "jackdaw", "crow"]), s.rng.choice("mf"), animal=True)
    else:
        thief = Who(
            s.rng.choice(["goblin", "fox", "pedlar", "monkey", "dwarf", "badger", "goat"]), s.rng.choice("mmf"))
    goal = place(
        s,
        ("wood"
         if thief.noun in ("magpie", "jackdaw", "crow", "fox", "badger") else
         s.rng.choice(["wood", "hill", "house"])))
    mid = place(s, "water")
    s.bind(f=thief, p=goal, q=mid)
    s.talk(
        h, "have you seen {t.a}? I have lost mine.", "good day! I am looking for my {t.bare}. Have you seen it?",
        "can you tell me [what has become of my {t.noun}|who has taken my {t.noun}]?", tone="ask")
    s.talk(
        w1,
        "I saw [something shining|somebody carrying such a thing] this morning, going [toward|in the direction of] "
        "{q}. [more I do not know|Ask there].",
        "[let me think|wait]. Yes, somebody went by with it, [very early|before sunrise], down to {q}.", tone="reply")
    s.p(
        "{h~} thanked {w}, and {h.went} {q.to}.", "so {h} {h.went} on {q.to}.",
        "{h~} thanked {w} and hurried on {q.to}.")
    scenery(s, 0.6)
    skill = find_helper(s, "x")
    s.talk(s.values["x"], "now tell me, what are you looking for?", "but what brings you here, {h.noun}?", tone="ask")
    s.talk(
        h, "I am looking for my {t.bare}. [someone has taken it away|I cannot find it anywhere].",
        "my {t.bare} is lost, and I must find it.", tone="sad")
    s.talk(
        s.values["x"],
        "your {t.noun}? It is {f.a} that has it, who lives {p.at}. [go straight on, and look up|you will know the "
        "place by the old {tree}].",
        "I know that. I saw {f.a} with it, and {f.his} home is {p.at}, [beside a {tree}|where the brambles grow].",
        tone="reply")
    s.p(
        "so {h} {h.went} {p.to}. [it was dark and still there|the way was long|it was not easy to find the way].",
        "{h~} did not rest until {h.he} stood {p.at}.")
    (
        s.say(
            "and there sat {f} with {t} [on {f.his} knees|in front of {f~him}|held tight].",
            "there was {f}, and beside {f~him} lay {t}.")
        if thief.noun not in ("magpie", "jackdaw", "crow") else
        s.say(
            "high up in the {tree} was a nest, and in the nest sat {f} with {t}.",
            "there in the {tree} sat {f}, and {t} [shone|hung] in the nest."))
    s.talk(
        h, "that is my {t.noun}! Please give it back to me.", "why did you take my {t.noun}?",
        "good day, {f.noun}. [I think you have something of mine|that {t.noun} is mine].", tone="say")
    reason = s.rng.choice(
        [
            "I found it in the grass, and I thought it belonged to nobody",
            "I have nothing pretty in my house, and it is so beautiful",
            "my little ones are ill, and it makes them laugh", "I only wanted to look at it for one day",
            "nobody ever gives me anything, so I took it"])
    s.talk(thief, reason + ".", "do not be angry. " + reason + ".", tone=s.pick(["sad", "reply"]))
    gift = h.carries
    s.bind(gift=gift)
    s.p("{h~} [was not angry any more|was sorry for {f}|thought it over]. {h.he} [took out|brought out] {gift}.")
    s.talk(
        h, "[look|see here], I will give you this for it. [you may eat it with your family|it is all I have with me].",
        "you should have asked me. [take this instead|here, this is for you], and let me have my {t.noun}.",
        tone="soft")
    s.p(
        "{f} [was ashamed|looked at the ground|was so glad that {f.he} laughed], and gave back {t}.",
        "then {f} [held out|gave back] {t}, and took the present.")
    s.talk(
        thief, "[I am sorry|forgive me]. I will never take what is not mine again.",
        "you are kinder than I was. [come and see me again|let us be friends].", tone="soft")
    s.p(
        "{h} [put {t} safely away|held {t} tight] and went home [by the shortest way|singing].",
        "with {t} safe once more, {h} went home.", "and so {h} came home again with {t}.")
    homecoming(s, m)
    s.maybe(
        0.5, "{t} was put back in its [old|own] place, and there it stayed.",
        "after that {h~} [took better care of|never again left out] {t}.")
    ending(
        s, "a kind word gets back more than a blow", "it is better to ask than to take",
        "those who seek with patience will find", "whoever asks politely learns most")


def witness(s, key, p):
    w = (
        elder(s)
        if s.chance(0.5) else
        Who(
            fresh(
                s, ["cow", "old goat", "goose", "donkey", "sheep", "grey cat", "blackbird", "toad", "old horse"],
                used_nouns(s)),
            s.rng.choice("mf"), animal=True))
    s.bind(**{key: w, "wp": p})
    meet(s, key)
    return w


def lost_and_home(s):
    h = hero(s, 0.45)
    m = parent(s, h)
    wood = place(s, "wood")
    s.season = s.rng.choice(["spring", "summer", "autumn"])
    goods = s.rng.choice(
        ["berries", "mushrooms", "firewood", "nuts", "wild strawberries", "flowers", "fir cones", "healing herbs"])
    s.bind(p=wood, goods=goods, h=h, m=m)
    s.title = s.pick(
        [
            f"{h.name} in the {wood.noun}", f"How {h.name} was lost", "The way home", f"{h.name} finds the way",
            f"The light in the {wood.noun}", f"Lost in the {wood.noun}"])
    opening(s, h, s.pick(["timid", "brave", "kind", None]), m)
    s.p(
        "<oneday> {m} sent {h} {p.to} for {goods}.", "<oneday> {h} was to go {p.to} and gather {goods}.",
        ("<oneday> there was no more {goods} in the house, and {h} was sent {p.to} to get some."
         if goods != "flowers" else
         "<oneday> {h} was sent {p.to} for {goods}."))
    s.talk(
        m,
        "[take this basket|here is a basket], and do not leave the path. [the wood is deep|it is easy to lose your "
        "way].",
        "[be home before dark|come back before the sun goes down], and keep to the path!", tone="say")
    if s.chance(0.7):
        s.talk(h, "I [promise|will], dear {m.noun}.", "do not be afraid, {m.noun}. I know the way.", tone="reply")
    s.br()
    set_out(s)
    lure = s.rng.choice(
        [
            "a blue butterfly", "a white hare", "a bird with a golden tail", "a bright beetle", "the sound of a bell",
            "a patch of the finest {goods}", "a little brown deer", "a squirrel with a nut", "a floating feather"])
    s.p(
        "[at first {h~} kept to the path|for a while all went well], but then {h.he} saw " + lure
        + ", and followed it [from tree to tree|deeper and deeper|without thinking].",
        ("[there were not many {goods} by the path|the basket was half full], when {h~} [caught sight of|noticed] "
         + lure)
        + ". {h.he} ran after it, [farther and farther|this way and that].")
    s.say(
        "when {h~} looked round at last, [the path was gone|there was no path to be seen|every tree looked like every "
        "other].",
        "then it was gone, and [so was the path|{h} did not know where {h.he} was].")
    s.talk(
        h, "[where is the path|which way did I come]?", "[oh dear|alas], I am lost!",
        "[if only I had stayed on the path|why did I not listen]!", tone="sad")
    s.p(
        "{h~} [ran to the left, and came to a bog|tried one way, and came to a wall of thorns]; {h.he} [ran to the "
        "right, and came to a dark pool|tried another, and came to a steep rock].",
        "{h~} called and called, but [only the echo answered|nobody heard|the trees swallowed the sound].",
        "the shadows grew long, and [the wind began to sigh in the branches|an owl called|it began to grow cold].")
    s.maybe(
        0.6,
        "[it began to rain|a mist came up|the first stars came out], and {h} sat down under a {tree} and [cried a "
        "little|shivered|thought of {h.his} {m.noun}].")
    for _ in range(s.rng.choice([1, 1, 2])):
        guide_fails(s)
    sign(s)
    s.p(
        ("<soon> {h~} saw a light [between the trunks|far off, no bigger than a spark]. it was the lamp in the window "
         "of {h.his} own home."
         if not h.animal else
         "<soon> {h} knew the place again: there was the old {tree2}, and behind it {h.his} own home."),
        "and there, at last, was the [edge of the wood|garden gate|old fence], and there was home.")
    homecoming(s, m)
    if s.chance(0.6):
        s.talk(
            m, "the basket can wait. You are here, and that is all I want.",
            "[promise me|another time] to stay on the path!", "I called you till my voice was gone.", tone="soft")
        s.talk(
            h, "I will never leave the path again.", "I was afraid, but [I did not give up|I kept on].", tone="reply")
    ending(
        s, "it is easy to leave the path and hard to find it", "whoever keeps calm finds a way",
        "a promise should be kept even when nobody sees", "home is never so dear as when one has been far from it")


def guide_fails(s):
    guide = Who(
        fresh(s, ["snail", "bat", "spider", "beetle", "toad", "lizard", "woodpecker", "jay", "moth"], used_nouns(s)),
        s.rng.choice("mf"), adj=s.rng.choice(["old", "little", "grey", ""]), animal=True)
    s.bind(g=guide)
    s.p(
        "on a [stone|log|low branch] sat {g.a}.",
        "just then {g.a} [came by|looked out of a hole|stirred among the leaves].")
    s.talk(
        s.values["h"], "can you tell me the way home?",
        ("please, [which way is the village|where does the path lie]?"
         if not s.values["h"].animal else
         "please, which way is it out of the wood?"),
        tone="ask")
    s.talk(
        guide, "I have never been farther than [this log|that bush|the next tree]. I cannot tell you.",
        "home? I am at home wherever [it is damp|it is dark|there is something to eat]. Ask somebody else.",
        "how should I know? [I have my own affairs|go and ask the owl].", tone=s.pick(["reply", "cross"]))
    s.last_speaker = None


def sign(s):
    """What shows the way; the hero reasons, so that the end follows from something."""
    kind = s.pick(["brook", "star", "bell", "owl", "smoke", "moss"])
    if kind == "brook":
        s.p(
            "then {h} heard water. a little brook ran among the stones, and {h} remembered that [the brook at home "
            "comes out of the wood|every brook runs down to the valley].")
        s.say(
            "so {h~} followed the water, [step by step|over roots and stones], and the brook [chattered|ran] on before "
            "{h~him} [like a friend|all the way].")
    elif kind == "star":
        s.p(
            "then the clouds parted, and {h} saw one bright star. it was the star that [stood over the roof at "
            "home|shone in at {h.his} window every night].")
        s.say(
            "{h~} kept the star before {h~him}, and {h.went} straight on, [however thick the bushes were|through fern "
            "and thorn].")
    elif kind == "bell":
        s.p(
            "all at once, far away, a bell began to ring. it was the [evening bell of the village|bell of {town}], and "
            "{h} knew its voice.")
        s.say("{h~} went toward the sound, and whenever it stopped {h.he} stood still and waited till it rang again.")
    elif kind == "owl":
        owl = Who("owl", s.rng.choice("mf"), adj=s.rng.choice(["old", "white", "wise", "big"]), animal=True)
        s.bind(o=owl)
        s.p("at last {o.a} looked down from a {tree2}.")
        s.talk(
            owl, "who is it that weeps in my wood?", "[who, who|who are you], and why are you here so late?",
            tone="ask")
        s.talk(
            s.values["h"], "it is I, {h.know}. I have lost my way, and [I am afraid|it is dark|I want to go home].",
            tone="sad")
        s.talk(
            owl,
            "do not cry. I see in the dark as others see by day. I will fly before you from tree to tree, and you must "
            "follow my voice.",
            "whoever asks nicely shall be helped. Follow my call, and do not look to the right or the left.",
            tone="soft")
        s.p(
            "so {o} flew before, calling softly, and {h} came after, [and was not afraid any more|stumbling over the "
            "roots].")
    elif kind == "smoke":
        s.p(
            "{h} climbed [to the top of a rock|upon a fallen tree] and looked about. over the dark trees a thin thread "
            "of smoke was rising.")
        s.say("where there is smoke there is a hearth, thought {h~}, and {h.he} {h.went} straight toward it.")
    else:
        s.p(
            "{h~} felt the trunk of a {tree2}. on one side it was soft with moss, and {h} remembered what {h.his} "
            "grandfather had once said: moss grows on the north side of the tree, and the village lies to the south.")
        s.say("so {h~} {h.went} from trunk to trunk, feeling for the moss, and always kept it behind {h~him}.")
