"""Plots of every day in which somebody grows: a year on the farm, courage, honesty, work, the truth."""
from tales.acts import (
    animal, child, ending, fresh, grown, hero, homecoming, opening, parent, scenery, set_out, used_nouns, walk)
from tales.engine import Thing, Who

def farm_year(s):
    h = child(s)
    m = parent(s, h)
    baby = Who(
        s.rng.choice(["lamb", "calf", "foal", "kid", "piglet", "puppy", "duckling", "gosling", "chick"]),
        s.rng.choice("mf"),
        s.rng.choice(
            ["Snowdrop", "Patch", "Button", "Star", "Daisy", "Whitefoot", "Pepper", "Nutmeg", "Clover", "Thunder"]),
        "little", "[trotted]", animal=True)
    s.bind(h=h, m=m, b=baby)
    s.season = "spring"
    s.title = s.pick(
        [
            f"{h.name} and the {baby.noun}", "A year on the farm", "The four seasons", f"{baby.name}",
            f"The smallest {baby.noun}", f"{h.name}'s year"])
    opening(s, h, s.pick(["kind", None]), m, 0.2)
    s.p(
        "it was spring. the [farmer|neighbours|people of the farm] [ploughed the field|sowed the barley|planted the "
        "beans], and {m} [dug the garden|whitewashed the wall|set the hens on their eggs].")
    scenery(s)
    s.p(
        "in that spring a {b.noun} was born, the smallest of all, and so weak that it could hardly stand. {m} shook "
        "{m.his} head.")
    s.talk(
        m, "that one will not live, I am afraid.",
        "it is too small. [do not set your heart upon it|it has no strength].", tone="sad")
    s.talk(
        h, "let me try! [I will feed it and keep it warm|I will sit up with it at night].",
        "I will take care of it. [please|only let me try]!", tone="beg")
    s.p(
        "{h~} [wrapped it in a blanket|made it a bed of straw by the stove], and gave it [warm milk from a spoon|a few "
        "drops of milk every hour|food with {h.his} own fingers]. {h.he} called it {b.know}. on the third morning {b} "
        "[stood up on shaking legs|cried for more].")
    s.season = "summer"
    s.p(
        "then came summer. "
        + "the people [cut the hay|picked the cherries|hoed the turnips], and {b} [followed {h} everywhere|ran after "
          "{h} like a dog|grew round and bold].")
    scenery(s)
    mischief = s.rng.choice(
        [
            "ate the farmer's straw hat", "fell into the pond, and had to be fished out",
            "got into the garden and trampled the lettuce",
            "ran into the church on Sunday, in the middle of the singing", "chewed the corner of the Sunday tablecloth"])
    s.p("once {b} " + mischief + ".")
    s.talk(
        m, "that {b.noun} will be the end of me!", "[what a rascal|did you ever see the like]!",
        tone=s.pick(["cross", "glad"]))
    s.season = "autumn"
    s.p(
        "autumn came. the people [brought in the corn|picked the apples|dug the potatoes], and the evenings grew long. "
        "{b} was no longer small.")
    scenery(s)
    danger, deed = s.rng.choice(
        [
            (
                "a fox crept into the yard one night",
                "made such a noise that everyone woke, and the fox ran off with nothing"),
            (
                "{h} fell into an old pit in the wood and could not climb out",
                "ran home and would not be quiet until {m} came along and found the place"),
            (
                "sparks from the chimney fell upon the barn",
                "cried and kicked at the door till the people came with buckets"),
            (
                "the gate was left open, and the <beasts> wandered toward the bog",
                "ran before them and turned them back, every one"),
            (
                "a thick mist came down, and {h} lost the path on the moor",
                "came through the mist, step by step, and led the way home")])
    s.p("then " + danger + ". but {b} " + deed + ".")
    s.talk(m, "and I said that {b.he} would not live! {b.he} has more sense than all of us.", tone="glad")
    s.season = "winter"
    s.p(
        "winter came, and the snow. the people [mended the tools|spun wool|carved spoons] by the fire, and told "
        "stories, and {b} lay [in the warm straw|beside the stove] and [listened|slept|dreamed].")
    scenery(s)
    s.talk(
        h,
        "soon it will be spring again. [Do you remember how small you were?|Then we shall have been together a year.]",
        "a whole year, {b.know}! [and what a year it was|how fast it went].", tone="soft")
    s.p(
        "and under the snow the [seeds slept|grass waited|<flower> waited], and everything began again from the "
        "beginning.")
    ending(
        s, "what is small may grow great with care", "every season has its work and its joy",
        "love is the best medicine")


FEARS = [
    (
        "the dark", "the night was as black as ink",
        "{h~} held {h.his} breath and listened. the dark was only the day with its eyes shut"),
    (
        "thunder", "it thundered and lightened without a stop",
        "{h~} counted between the flash and the crash, and found that the storm was going away"),
    (
        "deep water", "the bridge had been washed away, and there was only the old plank",
        "{h~} did not look at the water, but at the other bank, and set one foot before the other"),
    (
        "dogs", "the farmer's big dog lay before the gate",
        "{h~} stood still and spoke softly, and the dog smelled {h.his} hand and wagged its tail"),
    ("the wood", "the trees creaked and groaned", "{h~} sang, and the wood seemed to sing too"),
    (
        "geese", "the geese came hissing with stretched necks",
        "{h~} stood as tall as {h.he} could and walked straight on, and the geese made way"),
    (
        "the old mill", "the wheel groaned, and something white moved in the window",
        "{h~} went nearer, and it was nothing but a flour sack swinging on a nail"),
    (
        "strangers", "the whole street was full of people whom {h.he} had never seen",
        "{h~} looked into their faces, and saw that most of them were kind")]


def timid_one(s):
    h = hero(s, 0.4)
    m = parent(s, h)
    fears = [f for f in FEARS if not (h.animal and f[0] in ("the dark", "strangers"))]
    fear, scene, found = s.rng.choice(fears)
    need, get = s.rng.choice(
        [
            ("is ill", "the herb woman who lives beyond the hill"),
            ("has hurt {m.his} foot", "the neighbour across the valley"), ("has a fever", "the doctor in {town}")]
        if not h.animal else
        [
            ("is ill", "the old badger who knows all herbs"),
            ("is caught under a fallen branch", "the beaver who can gnaw through wood"),
            ("has a thorn in {m.his} foot", "the wise owl")])
    s.bind(h=h, m=m, fear=fear)
    s.title = s.pick(
        [
            f"{h.name}, who was afraid", f"The timid {h.noun}", f"How {h.name} became brave", f"{h.name} and {fear}",
            "A little courage"])
    s.season = s.rng.choice(["autumn", "spring", "summer"])
    opening(s, h, None, m)
    s.say(
        "{h~} was afraid of many things, but most of all of {fear}.",
        "there was one thing that made {h~him} tremble, and that was {fear}.")
    s.p(
        "the others laughed at {h~him} for it.", "whenever the others went that way, {h} [stayed at home|turned back].",
        "'do not mind it,' {h.his} %s used to say. 'courage comes when it is needed.'" % m.noun)
    s.p("<oneday> {h} found {h.his} %s pale and [groaning|unable to rise]." % m.noun)
    s.talk(
        m, "dear {h.know}, somebody must fetch " + get + ". But the way is long, and there is nobody here but you.",
        "I need help. If only somebody could go to " + get + "!", tone="sad")
    s.p(
        "{h} thought of {fear}, and [{h.his} knees shook|{h.his} heart stood still]. then {h.he} looked at {h.his} %s." % m.noun)
    s.talk(
        h, "I will go. [I shall be back soon|lie still and wait for me].", "I am afraid, but I will go all the same.",
        tone="reply")
    set_out(s)
    s.br()
    walk(s)
    s.p(
        "[<soon>|then] {h~} came to the place that {h.he} feared, for " + scene
        + ". {h.his} teeth [chattered|knocked together], and {h.he} [wanted to turn back|stopped].",
        "and then it came: " + scene + ". {h} [stood still and could not stir|shut {h.his} eyes].")
    s.say(
        "'if I go back, who will help?' {h~} thought. 'one step, and then another. that is all.'",
        "{h~} said to {h.self}: \"I may be as frightened as I like, if only my feet go on.\"")
    s.p(found + ".")
    s.talk(h, "is that all?", "why, I have been afraid of nothing!", "I did it!", tone="glad")
    s.p(
        (("after that the rest of the way was easy. {h} [knocked at the door|found the right place] and told what had "
          "happened, and "
          + get)
         + " [came at once|asked no questions, but came].")
        if h.animal else
        ("after that the rest of the way was easy. {h} found the house and told what had happened, and " + get
         + " [came at once|took a bag and came]."))
    s.p(
        "before [morning|evening|the day was over] the worst was past, and {h}'s %s [smiled|could sit up|was well "
        "again]." % m.noun)
    s.talk(m, "you went all that way alone? And past " + fear + "? " + "[were you not afraid]?", tone="ask")
    s.talk(h, "yes, I was afraid. [but I had no time for it|but I went on, and then it grew small].", tone="reply")
    s.p(
        "nobody laughed at {h} any more. and when the little ones were afraid, it was {h} who took them by the %s and "
        "said: \"one step, and then another.\"" % ("paw" if h.animal else "hand"))
    ending(
        s, "courage is fear that goes on walking", "most of what we fear is smaller when we come near",
        "love makes the timid brave")


def honest_finder(s):
    h = child(s) if s.chance(0.6) else grown(s)
    m = parent(s, h) if h.noun in ("boy", "girl") else None
    owner = Who(
        s.rng.choice(
            [
                "merchant", "widow", "drover", "judge", "old lady", "sailor", "travelling doctor", "countess", "farmer",
                "schoolmaster"]),
        "m", adj=s.rng.choice(["rich", "stern", "worried", "stout", "old"]))
    if owner.noun in ("widow", "old lady", "countess"):
        owner.gender = "f"
    if owner.noun == "old lady":
        owner.adj = ""
    t = s.rng.choice(
        [
            Thing("purse", "leather"), Thing("purse", "red"), Thing("bag of money", ""), Thing("box", "little silver"),
            Thing("necklace", "pearl"), Thing("watch", "golden"), Thing("ring", "ruby")])
    need = s.rng.choice(
        ["shoes for the winter", "a cow", "medicine", "bread for the whole year", "a new roof", "a warm coat"])
    s.bind(h=h, o=owner, t=t, need=need)
    s.title = s.pick(
        [
            f"The {t.bare}", f"{h.name or 'The ' + h.noun} finds a treasure", f"The honest {h.noun}",
            f"The lost {t.noun}" if len(t.noun) < 10 else "The lost money", "Honesty and the penny"])
    opening(s, h, "poor", m)
    s.say("what was needed most of all in that house was {need}.")
    s.p(
        "<oneday> {h} [was on the way to {town}|was gathering sticks by the high road|was crossing the market place] "
        "and saw something [shining in the dust|lying in the grass|between two stones]. it was {t.a}.")
    s.say("{h~} [looked up the road and down the road|looked all about], but there was nobody to be seen.")
    voice = "it was as if a voice whispered in {h.his} ear: \"keep it! nobody saw you. now you can have {need}.\""
    s.p(voice, "'with that,' {h~} thought, 'I could buy {need}.' and nobody would ever know.")
    s.talk(
        h, "no. [it is not mine|somebody is weeping for it now]. I will find the one who lost it.",
        "it belongs to somebody, and [that somebody will be looking for it|I must give it back].", tone="say")
    for _ in range(s.rng.choice([1, 2])):
        cheat = Who(
            fresh(
                s, ["tall stranger", "horse-dealer", "sly beggar", "innkeeper", "man with one eye", "peddling barber"],
                used_nouns(s)),
            "m")
        s.bind(c=cheat)
        s.p("on the way there came a {c.noun}.", "<soon> {h} met a {c.noun}.")
        s.talk(cheat, "have you found something? [it is mine|I lost it yesterday]! Give it here!", tone="cry")
        s.talk(h, "then tell me [what it looks like|what colour it is].", tone="reply")
        s.p("the {c.noun} [stammered and turned red|said this and that], but it was all wrong, and {h} went on.")
    s.p(
        "at last, [in the inn|by the church door|at the well], {h} found {o.a}, who was [searching every "
        "corner|sitting with {o.his} head in {o.his} hands|asking everyone who came by].")
    s.talk(h, "have you lost something?", "what are you looking for, if I may ask?", tone="ask")
    s.talk(
        owner,
        "I have lost {t.a}. [it was my father's|it is all I have in the world|I would give anything to have it back].",
        tone="sad")
    s.p("{h} held it out, and {o} [could not believe {o.his} eyes|laughed and wept at once].")
    s.talk(
        owner,
        "and you did not keep it? You, [who have no shoes to your feet|who look so poor]! What shall I give you?",
        "[there are not many like you|honest people are rare]. Ask for what you like!", tone="glad")
    s.talk(h, "nothing, thank you. It was not mine.", "I did only what is right.", tone="reply")
    s.p(
        "{o} said no more. but [a week later|the next day|before the month was out] a cart stopped before the door, "
        "and in it was a letter. it said: \"for one who is honest.\" and with the letter came what had been wanted so "
        "long: {need}.")
    homecoming(s, None)
    ending(
        s, "honesty is the best policy", "what is kept by a lie brings no joy", "a clear conscience is a soft pillow",
        "whoever is true in small things may be trusted with great ones")


def lazy_one(s):
    h = animal(s) if s.chance(0.7) else child(s)
    n = animal(s) if h.animal else child(s)
    s.season = "summer"
    s.bind(h=h, n=n)
    s.title = s.pick(
        [
            f"The lazy {h.noun}", f"{h.name} and {n.name}", "Tomorrow", f"How {h.name} learned to work",
            "Summer and winter"])
    opening(s, h, "lazy", None, 0.8)
    s.p(
        "near by lived {n.intro}, who was up with the sun. all summer long {n} was [gathering and storing|carrying and "
        "stacking|busy from morning till night].")
    s.p(
        "<oneday> {n} came by with a heavy load and found {h} [lying on {h.his} back|asleep under the {tree}|watching "
        "the clouds].")
    s.talk(
        n, "winter is coming, {h.know}. [have you nothing to do|will you not gather something too]?",
        "[up, up|good morning]! The {flowers} are fading already. Is your store full?", tone="ask")
    s.talk(
        h, "[tomorrow|by and by]. Today the sun is too warm.",
        "winter? [that is a long way off|who thinks of winter now]! Sit down and rest.", tone="reply")
    s.season = "autumn"
    s.p(
        "the weeks went by, and the leaves turned. again {n} came along, with [nuts and apples|dry wood|a sack of "
        "corn].")
    s.talk(
        n, "there is still time. I will help you, if you like.",
        "the nights are growing cold. [come, there is plenty left under the trees].", tone="say")
    s.talk(
        h, "tomorrow. [today it looks like rain|my foot has gone to sleep].",
        "I have just found such a soft place. Tomorrow, for certain!", tone="reply")
    s.season = "winter"
    s.p("then, in one night, the winter came.")
    scenery(s)
    s.say(
        "{h} [looked in the cupboard|looked into every corner], and there was nothing. {h.he} went out to look, but "
        "[the snow had covered everything|the ground was like iron]."
        if not h.animal else
        "{h} went out to look for food, but [the snow had covered everything|the ground was like iron].")
    s.p(
        "for [two|three] days {h} was [cold and hungry|more and more hungry]. on the next {h.he} [dragged "
        "{h.self}|went] through the snow to {n}'s door, and was ashamed to knock.")
    s.talk(n, "who is there? [come in|come in quickly]!", tone="cry")
    s.talk(h, "it is I. I have nothing, and it is my own fault. [I kept saying tomorrow|you told me so].", tone="sad")
    s.p(
        "{n} might have said: \"I told you so.\" but {n.he} only put [a bowl|a plate] on the table."
        if not h.animal else
        "{n} might have said: \"I told you so.\" but {n.he} only moved a little to make room.")
    s.talk(
        n,
        "eat first. [then you can help me sort the nuts|and then we shall see what you can do]. There is work in "
        "winter, too.",
        tone="say")
    s.p(
        "so {h} stayed, and [swept the snow from the door|sorted the nuts|carried in the wood], and found, to {h.his} "
        "surprise, that [supper tastes better after work|the days went faster].")
    s.season = "spring"
    s.p(
        "when spring came {h} was the first to be up. [\"tomorrow\" was a word that {h.he} never used again|and the "
        "next winter there were two full stores, side by side].")
    ending(
        s, "tomorrow is often too late", "whoever rests in summer goes hungry in winter",
        "work done today is bread tomorrow")


def broken_truth(s):
    h = child(s)
    m = parent(s, h)
    t = Thing(
        s.rng.choice(["jug", "bowl", "vase", "plate", "mirror", "teapot", "lamp", "clock", "window", "fiddle"]),
        s.rng.choice(["blue", "china", "old", "painted", "best", "big"]))
    s.bind(h=h, m=m, t=t)
    s.title = s.pick(
        [f"The broken {t.noun}", f"{h.name} tells the truth", "Who did it?", f"The {t.bare}", "A heavy secret"])
    opening(s, h, s.pick([None, "clever", "brave"]), m)
    s.say(
        "in the house there was {t.a}, which {h.his} %s loved, for it had come from [over the sea|{h.his} "
        "great-grandmother|the fair at {town}]." % m.noun)
    s.p(
        "<oneday> {h} was alone and [played ball in the room|chased the cat round the table|climbed on a chair to "
        "reach the jam]. crash! there lay {t}, in [three|five|seven|a hundred] pieces.")
    s.talk(h, "[oh dear|what have I done]! What will my {m.noun} say?", tone="sad")
    s.p(
        "{h~} [swept up the pieces|gathered the pieces] and hid them [under the bed|behind the woodpile|in the old "
        "chest]. 'perhaps nobody will see it,' {h.he} thought.")
    s.p("in the evening {h.his} %s came home, tired, [with a cake in the basket|with a bundle of wood]." % m.noun)
    s.talk(
        m, "where is the {t.noun}, {h.know}?", "why, the {t.noun} is gone! Do you know what has become of it?",
        tone="ask")
    blame = s.rng.choice(
        [
            "the cat did it", "I have not seen it", "a pedlar came, and perhaps he took it",
            "the wind must have blown it down"])
    s.talk(h, blame[0] + blame[1:] + ".", tone="soft")
    s.p(
        "{h.his} %s said nothing more. but {h} could not eat. the [supper|bread] [was like sand|stuck in {h.his} "
        "throat], and in bed {h.he} [turned from side to side|could not sleep]. the [moon looked in at the window, and "
        "seemed to know|clock ticked: tell it, tell it, tell it]." % m.noun)
    if "cat" in blame:
        s.p("and outside the door sat the cat, who had been sent out in the cold because of it, and mewed.")
    s.p("at last {h} got up, fetched the pieces, and went [barefoot|in the dark] to {h.his} %s." % m.noun)
    s.talk(
        h, "it was I. I broke it, and I told a lie. [I am so sorry|the lie is worse than the pieces].",
        "I did it, and I hid it, and then I said what was not true.", tone="sad")
    s.talk(
        m,
        "I knew it, {h.know}. [I found a piece under the table|your face told me]. I was only waiting for you to say "
        "it.",
        "thank you for telling me. A {t.noun} can be [mended|done without]. But I could not do without the truth.",
        tone="soft")
    s.p(
        "the next day they sat down together and glued the pieces with [paste|white of egg], one to the other. one "
        "could see the cracks, but it held.")
    s.say(
        "and {h} [gave {h.his} saved pennies toward a new one|carried water for a month to make up for it], and slept "
        "as soundly as a stone.")
    s.maybe(
        0.6, "whenever {h~} looked at the cracks, {h.he} remembered.",
        "it stood in its old place, and {h.his} {m.noun} said that it was more beautiful than before.")
    ending(
        s, "the truth is a light load and a lie is a heavy one", "what is broken can be mended, if one owns it",
        "a lie has short legs")
