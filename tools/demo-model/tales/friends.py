"""Plots of friends and neighbours: friendship, a quarrel, a storm, a sick mother, soup for all, a contest."""
from tales.acts import animal, child, elder, ending, fresh, grown, hero, meet, opening, parent, scenery, thing, walk
from tales.banks import BOYS
from tales.engine import Who
from tales.quests import find_helper

# what two friends make together: the thing, three steps, the joy of it
MAKINGS = [
    (
        "boat", "they hollowed out a piece of bark", "they set up a stick for a mast",
        "they made a sail of a <colour> rag",
        "they put it on the water, and away it went, [rocking and dancing|round the stones and under the bridge]"),
    (
        "kite", "they tied two thin sticks together", "they pasted <colour> paper over them",
        "they made a tail of [rags|twisted grass]",
        "they ran against the wind, and up it went, [higher than the <tree>|till it was no bigger than a <bird>]"),
    (
        "house of branches", "they leaned long branches against a <tree>", "they wove twigs in between",
        "they covered it with moss and ferns",
        "they crept inside, and [it rained, and not a drop came in|it was the best house in the world]"),
    (
        "dam", "they rolled big stones into the brook", "they filled the gaps with clay and grass",
        "they laid turf upon the top",
        "the water rose and rose, till there was a little lake [for ducks to swim on|with the sky in it]"),
    (
        "garden", "they dug a bed under the wall", "they planted <flower> and beans",
        "they fetched water from the brook every evening",
        "one morning the first green tips [stood in a row|had come up]"),
    (
        "swing", "they begged an old rope from the <trade>", "they tied it to the strongest bough of the <tree>",
        "they made a seat out of a board",
        "they swung so high that they could see [over the hedge|the roofs of {town}]"),
    (
        "scarecrow", "they crossed two poles", "they stuffed an old coat with straw",
        "they gave it a turnip for a head", "it looked so grand that the <beasts> [bowed to it|ran away]"),
    (
        "raft", "they dragged three logs to the pond", "they bound them together with willow twigs",
        "they cut a long pole for steering",
        "they floated out into the middle, [like two captains|among the water-lilies]")]


def new_friend(s):
    s.season = s.rng.choice(["spring", "summer", "autumn"])
    h = hero(s, 0.5)
    n = animal(s) if h.animal else child(s)
    shy = s.rng.choice(
        [
            ("so shy that {n.he} hid behind the {tree} when anyone came", "shy"),
            ("a stranger, and spoke with an odd sound", "strange"), ("new in the place and knew nobody", "new"),
            ("so quiet that people thought {n~him} proud", "quiet"),
            ("lame in one foot and could not run with the others", "lame"),
            ("so big and clumsy that nobody would play with {n~him}", "clumsy")])
    make = s.rng.choice(MAKINGS)
    s.bind(h=h, n=n, make=make[0])
    s.title = s.pick(
        [
            f"{h.name} and {n.name}", f"How {h.name} found a friend", "Two are better than one", f"The {make[0]}",
            f"{n.name}, who was {shy[1]}", "The friend behind the hedge"])
    opening(s, h, "lonely", parent(s, h) if s.chance(0.4) else None)
    s.p(
        ("<oneday> {h} [heard|noticed] something [behind the hedge|on the other side of the wall|under the {tree}]. it "
         "was {n.intro}, who was "
         + shy[0])
        + ".",
        "now there came to live [near by|next door|on the other side of the brook] {n.intro}, who was " + shy[0] + ".")
    s.say(
        "{h} wanted to say something, but [did not know how to begin|the words would not come]. so the first day they "
        "only looked at each other.",
        "they looked at each other, and [neither said a word|both ran away|{h} turned red].")
    first_try = s.pick(["gift", "help", "call"])
    if first_try == "gift":
        s.bind(
            gift=s.rng.choice(
                [
                    "a speckled feather", "a ripe plum", "a round white stone", "a little whistle of willow",
                    "three red berries", "a honey cake"]))
        s.p(
            "the next day {h} laid {gift} upon a [flat stone|post] and went away. when {h.he} came back, it was gone, "
            "and in its place lay [a blue shell|two hazelnuts|a daisy|a shining beetle's wing].")
        s.talk(
            h, "[so you like it|was it good]? [come out|do not hide]! I will not hurt you.",
            "I know you are there. [shall we be friends|what is your name]?", tone="soft")
    elif first_try == "help":
        s.bind(toy="bundle" if n.animal else s.rng.choice(["hat", "basket", "ball"]))
        s.p("the next day the wind blew {n}'s {toy} into the brook. {h} jumped in up to the knees and fetched it out.")
        s.talk(
            h, "here it is. It is [only a little|rather] wet. [What is your name|Will you play with me]?", tone="ask")
    else:
        s.p("the next day {h} [took heart|went as far as the gate] and called.")
        s.talk(
            h, "good morning! [I am making something, and I need help|it is dull alone]. Will you come?",
            "hello! [what is your name|do you like to build things]?", tone="cry")
    s.talk(
        n,
        "I am {n.know}. [nobody ever spoke to me before|I thought you did not like me|I was afraid you would laugh at "
        "me].",
        "my name is {n.know}. [may I really|do you mean it]? [the others all ran away|I have been watching you].",
        tone=s.pick(["reply", "soft"]))
    s.talk(
        h, "[come, let us|we two might|then let us] make a {make}!",
        "I have always wanted to make a {make}, but it [takes two|cannot be done alone].", tone="glad")
    s.p("so they [set to work|began]. first " + make[1] + ", then " + make[2] + ", and last of all " + make[3] + ".")
    if s.chance(0.6):
        s.p(
            "[once it all fell down|it went wrong twice|it was harder than they had thought], and {h} was [cross|ready "
            "to give up].")
        s.talk(
            n,
            "never mind! [we will do it again|the second time is always better|hold this end, and I will hold the "
            "other].",
            tone="glad")
    s.p("at last it was done, and " + make[4] + ".")
    s.talk(
        h, "[I never had such a day|this is the best day of my life]!", "why did we not do this long ago?", tone="glad")
    s.talk(
        n, "tomorrow we will [make another|do something still better]. You will come, [will you not|won't you]?",
        (f"and nobody can say that I am too {shy[1]} any more!"
         if shy[1] in ("shy", "quiet", "clumsy") else
         "now I am not a stranger any more."),
        tone="say")
    s.p(
        "and {h} came the next day, and the next, [and every day after that|summer and winter]. wherever one of them "
        "was, there was the other.")
    ending(
        s, "a stranger is only a friend whom one has not met", "it takes one word to make a friend",
        "two can do what one can only dream of", "whoever wants a friend must open the gate")


QUARRELS = [
    ("which of them was the faster", "faster"), ("to whom the {tree} between their homes belonged", "tree"),
    ("who should have the bigger half of a cake", "cake"), ("who had first seen {t.a} that lay in the road", "found"),
    ("whether the <bird> or the <bird> sang better", "song"),
    ("who had left the gate open, so that the <beasts> ate the cabbages", "gate"),
    ("who had broken the [jug|ladder|cart]", "broken"), ("which game they should play", "game")]


def quarrel_mended(s):
    h = hero(s, 0.55)
    n = animal(s) if h.animal else child(s)
    t = thing(s)
    quarrel = s.rng.choice(QUARRELS)[0]
    s.bind(h=h, n=n, t=t)
    s.title = s.pick(
        [
            "The quarrel", f"{h.name} and {n.name}", "Two stubborn friends", f"How {h.name} and {n.name} made it up",
            "The wall between", "A word said in anger"])
    opening(s, h, s.pick([None, "brave", "clever"]), None, 0.3)
    s.p(
        "{h} had a friend, {n.intro}, who lived [next door|just over the brook|on the other side of the {tree}]. [all "
        "day long they were together|they shared everything|one was never seen without the other].")
    s.p("but <oneday> they quarrelled about " + quarrel + ".")
    s.talk(
        h, "[you are always wrong|you never listen]! [everyone knows it|I will not play with you any more].",
        "it is [your fault|as I say], and you know it!", tone="cross")
    s.talk(
        n, "[and you are as stubborn as a mule|you are the one who is wrong]! [go home, then|I do not need you].",
        "[then stay away|very well], and see if I care!", tone="cross")
    s.p(
        "so each went home and [shut the door|did not look round]. {h} [built a wall of stones|piled up branches] "
        "between the two homes, and {n} [made it higher|put thorns upon it].",
        "from that hour they did not speak. when they met, {h} looked at the sky and {n} looked at the ground.")
    s.p(
        ("the first day {h} thought: \"how quiet it is! [that is good|now I have peace].\" the second day {h.he} "
         "thought: \"how quiet it is.\" and the third day it was so quiet that {h.he} could [not eat|not sleep|hear "
         "the clock tick]."
         if not h.animal else
         "the first day {h} thought: \"how quiet it is! now I have peace.\" the second day {h.he} thought: \"how quiet "
         "it is.\" and the third day it was so quiet that {h.he} could [not eat|not sleep]."),
        "at first {h} was [glad|still angry]. but there was no one to [laugh with|share an apple with|tell a secret "
        "to], and the days were as long as weeks.")
    s.p(
        "it was no better with {n}, who [sat at the window and sighed|kicked stones about the yard|set out supper for "
        "two, and ate alone].")
    how = s.pick(["storm", "gift", "child"])
    if how == "storm":
        s.p(
            "then one night there came a storm. [the thunder rolled and the wind tore at the roofs|the rain came down "
            "like a river]. in the midst of it {h} heard [a crash|a cry]: the {tree} had fallen upon {n}'s home.")
        s.say(
            "{h} forgot that {h.he} was angry. {h.he} ran out into the dark, climbed over everything, and [pulled away "
            "branch after branch|called {n}'s name], till {n} crept out, wet and frightened, but not hurt.")
        s.talk(n, "you came! [after all I said to you|I thought you hated me].", tone="sad")
        s.talk(
            h,
            "[of course I came|how could I not]. [what is a quarrel against a friend|I have been sorry ever since]. "
            "Come home with me and get dry.",
            tone="soft")
    elif how == "gift":
        s.p(
            "one evening {h} baked a little cake and thought: \"I will set it before {n}'s door, and run away.\" and "
            "that same evening {n} [picked a bunch of <flower>|filled a basket with plums] and thought: \"I will lay "
            "it at {h}'s door, and nobody shall see me.\""
            if not h.animal else
            "one evening {h} gathered the best supper that could be found, and thought: \"I will lay it at {n}'s door, "
            "and run away.\" and that same evening {n} picked a bunch of <flower> and thought: \"I will lay it at "
            "{h}'s door, and nobody shall see me.\"")
        s.say("so it came about that they met in the dark, just in the middle, and bumped their heads together.")
        s.talk(h, "oh! I was only [passing|taking a walk].", "I have brought you something.", tone="say")
        s.talk(
            n, "so was I. [and I am sorry|it was my fault].",
            "and I have something for you. I am sorry for what I said.", tone="reply")
        s.talk(h, "no, it was mine.", "I said worse things than you.", tone="glad")
    else:
        w = elder(s)
        s.bind(w=w)
        s.p("one day {w.a} came by, and looked at the two sad faces.")
        s.talk(
            w, "[what is the matter in this place|why does nobody sing here]?", "why do you two not speak?", tone="ask")
        s.p("each told the story, and each told it differently. {w} listened to the end.")
        s.talk(w, "[I am old and stupid|my ears are bad]. Tell me only this: what did you get by it?", tone="ask")
        s.p(
            "{h} opened {h.his} mouth, and shut it again. {n} looked at {n.his} feet. and then, [all at once|nobody "
            "knows who began], they both began to laugh.")
        s.talk(h, "nothing at all! Let us be friends again.", tone="glad")
    s.p(
        "so the two were friends again, and [the quarrel was forgotten|nobody could remember what it had been about]. "
        "of the stones they built a [bench|bridge over the brook|little tower], and there they sat in the evening.",
        "from that day, when they did not agree, they [counted to ten|tossed a pebble|both laughed], and [all was "
        "well|that was the end of it].")
    ending(
        s, "a quarrel is soon begun and late mended", "whoever says 'I am sorry' first is the stronger",
        "a friend is worth more than being right", "an angry word is a stone, and a kind one is a bridge")


SIGNALS = {
    "lantern": "{h~} took the lantern, put it under {h.his} coat so that the wind should not blow it out, and climbed "
               "to the top of the [rock|cliff|old tower]. there {h.he} held it up, and swung it to and fro",
    "bell": "{h~} ran to the chapel, [hung on the rope|took hold of the rope], and rang the bell, [ding, dong, ding, "
            "dong|without ever stopping], till {h.his} hands were sore",
    "horn": "{h~} took the old horn from the wall, climbed upon the [rock|roof|hill], and blew, three long blasts and "
            "then three more",
    "fire": "{h~} carried dry wood to the top of the hill, log by log, and lit a fire there under the shelter of a "
            "rock, and fed it all night long",
}


def storm_rescue(s):
    h = child(s)
    m = parent(s, h)
    lost = s.rng.choice(
        [
            ("sea", "fishing boat", "the boat had gone out before sunrise"),
            ("lake", "ferry", "the ferry had put off from the shore"),
            ("mountain", "flock", "the flock was on the high pasture"),
            ("moor", "post-cart", "the post-cart was on the road")])
    x = child(s) if lost[0] in ("moor", "lake") else grown(s)
    if lost[0] in ("sea", "mountain"):
        x.noun, x.gender = "fisherman" if lost[0] == "sea" else "shepherd", "m"
        x.name = x.name and fresh(s, BOYS, {h.name})
    tool = s.rng.choice(["lantern", "bell", "horn", "fire"])
    s.bind(h=h, m=m, x=x, where=lost[0], boat=lost[1], tool=tool)
    s.season = s.rng.choice(["autumn", "winter", "spring"])
    s.title = s.pick(
        [
            "The storm", f"{h.name or 'The ' + h.noun} and the storm",
            f"The {tool} in the night" if tool != "fire" else "The fire on the hill", "The night of the great storm",
            f"How {x.name or 'the ' + x.noun} was saved", f"The lost {lost[1]}"])
    opening(s, h, s.pick(["brave", "kind", "timid"]), m, 0.2)
    s.say("from the door one could see the {where}, [blue and quiet|wide and grey|bright in the sun].")
    s.p(
        ("<oneday> the [morning was still and clear|sky was red in the morning|air was heavy], and " + lost[2]
         + ". with it was {x.intro}, whom everyone liked.")
        if x.name else
        "<oneday> the morning was still and clear, and " + lost[2] + ". with it was {x.a}, whom everyone liked.")
    s.p(
        "but toward [noon|evening] the [gulls|crows|swallows] flew low, and a black cloud [came over the hill|stood in "
        "the west]. the wind [rose|began to moan|turned], first a little, then more, and then it [howled like a "
        "hundred wolves|bent the {tree} to the ground|tore the slates from the roofs].")
    s.say(
        "[rain and hail beat on the window|it grew as dark as night|thunder rolled from end to end of the sky]. the "
        "{boat} did not come back.")
    s.talk(
        m, "[heaven help all who are out tonight|I can see nothing, nothing at all]! {x} is still out there.",
        "they will never find the way [in such a night|in this darkness].", tone="sad")
    s.talk(
        h, "then we must [show them the way|help them]! I will [go|try].",
        "somebody must [go out to them|do something]. Let me go!", tone="cry")
    if s.chance(0.6):
        s.talk(
            m,
            "[it is too dangerous|you are so small]! But somebody must, and I will hold the [rope|door|ladder] for "
            "you.",
            "go, then, and [tie this rope about you|wrap up well|take care].", tone="reply")
    coast = "[shore|harbour]" if lost[0] in ("sea", "lake") else "[village|road]"
    deed = SIGNALS[tool]
    s.p(deed + ".")
    s.say(
        "the rain [ran down {h.his} neck|beat in {h.his} face], and {h.his} arms [ached|grew numb], but {h~} did not "
        "stop.",
        "more than once {h~} thought: \"I can do no more.\" but {h.he} did not stop.")
    s.p(
        ("out there, in the [darkness|storm], {x} had lost all hope. then {x.he} "
         + ("saw a spark of light" if tool in ("lantern", "fire") else "heard a sound through the wind"))
        + ".")
    s.talk(
        x,
        ("[do you see it?|look!] That way! There is the " + coast + "!"
         if tool in ("lantern", "fire") else
         "[do you hear it?|listen!] That way! There is the " + coast + "!"),
        tone="cry")
    s.p(
        "it was long after midnight when {h} [saw something move|heard voices]. out of the [rain|dark] came the "
        "{boat}, [slowly|battered, but whole], and {x}, wet to the skin and laughing.")
    s.talk(
        x, "without the {tool} we should all have been lost. Who was it?",
        "who [stood there|kept watch] all night for us?", tone="ask")
    s.talk(m, "it was {h.know}, [and no one else|who would not come in till you were home].", tone="reply")
    s.p(
        "{x} [could not speak|took {h} by both hands]. and the next day, when the [sun shone|sky was blue again] as if "
        "nothing had happened, {x} brought [a basket of fish|a knife with a horn handle|a warm new coat|a little dog "
        "with one white ear] as a present.")
    s.maybe(
        0.6,
        ("and the {tool} was [given a place of honour|kept ready]; and whenever the wind rose, somebody looked after "
         "it."
         if tool != "fire" else
         "and ever since, when the wind rises, a fire is lit upon the hill."))
    ending(
        s, "one small light can be seen a long way", "courage is to be afraid and to go all the same",
        "whoever helps in the storm is a friend in the sunshine")


PASSING = {
    "fly": "came through the air, flew over the top, and was back before one could count ten",
    "dig": "came and dug a tunnel under it, just wide enough",
    "run": "came, took a great leap over it, and was back in a moment",
    "see": "came in the dusk, and with its sharp eyes found the little crack through which one could slip",
    "find": "came, searched along the foot of it, and found a little hidden opening",
}


def sick_mother(s):
    h = hero(s, 0.25)
    m = parent(s, h, "f")
    cure = s.rng.choice(
        [
            "a blue flower that grows on the highest rock", "water from the spring under the three birches",
            "an apple from the tree at the world's end", "honey from the bees of the silent wood",
            "a leaf of the silver tree", "snow from the mountain that never melts"])
    short = cure.split(" ")[1] if cure.startswith(("a ", "an ")) else cure.split(" ")[0]
    guide = elder(s)
    s.bind(h=h, m=m, g=guide, cure=cure, short=short)
    s.title = s.pick(
        [f"{h.name} and the {short}", f"The {short}", "The long way for love", f"How {h.name} went for the {short}"])
    opening(s, h, s.pick(["kind", "brave"]), m)
    s.p(
        ("<oneday> {h}'s %s fell ill. she [lay in bed and did not eat|grew paler every day], and [no doctor could "
         "help|nothing did her any good]." % m.noun)
        if not h.animal else
        "<oneday> {h}'s %s fell ill. she lay still and did not eat, and nothing did her any good." % m.noun)
    s.talk(h, "is there nothing [in the whole world|at all] that can make you well?", tone="ask")
    s.talk(
        m, "they say that {cure} can heal every sickness. But [it is far away|nobody has ever brought any home].",
        tone="reply")
    s.p(
        "{h} did not wait, but [kissed her and|filled the water jug and|asked the neighbour to sit with her and] set "
        "out."
        if not h.animal else
        "{h} did not wait, but covered her with leaves and set out.")
    walk(s)
    skill = find_helper(s, "x", ["fly", "dig", "run", "see", "find"])
    s.br()
    meet(s, "g")
    s.talk(guide, "where are you going, little {h.noun}, and why are your eyes so red?", tone="ask")
    s.talk(h, "my %s is ill, and I am looking for {cure}. Do you know the way?" % m.noun, tone="sad")
    s.talk(
        guide,
        "keep [the sunset before you|along the water|straight on], until you come to [a black rock|a wall of thorns|a "
        "gate without a key]. [there you will need a friend|alone you cannot pass it].",
        tone="reply")
    s.p(
        "{h} thanked {g} and {h.went} on [for a day and a night|till the stars came out|over hills and bogs], and "
        "there was the place. {h.he} [tried once, tried twice|tried from all sides], but could not [get by|pass].")
    s.say("then {h.he} thought of the {x.noun}, and called.")
    help_ = PASSING[skill]
    s.p(
        "the {x.noun} " + help_
        + ". and so {h} held it in {h.his} own %s at last: {cure}." % ("paws" if h.animal else "hands"))
    s.talk(
        s.values["x"], "you helped me, and I have helped you. Now hurry home!",
        "we are quits now, but we are still friends. Run!", tone="glad")
    s.p("{h~} [hardly ate or slept|did not stop to rest] until {h.he} was home.")
    s.say(
        ("{h.his} %s was so weak that she could only [open her eyes|smile a little]. but when she had tasted it, [she "
         "sat up|she asked for soup], and in three days she was well." % m.noun)
        if h.animal else
        ("{h.his} %s was so weak that she could only [open her eyes|smile a little]. but hardly had she tasted it when "
         "[the colour came back to her cheeks|she sat up in bed|she asked for soup], and in three days she was well." % m.noun))
    s.talk(m, "and you went all that way for me?", tone="ask")
    s.talk(h, "it was not far. [I had a friend|I would go twice as far].", tone="reply")
    ending(
        s, "love finds the longest road short", "those who help find help", "no way is too long for a faithful heart")


VILLAGERS = [
    "miller", "baker", "widow", "farmer", "smith", "weaver", "innkeeper", "shepherd", "cobbler", "gardener",
    "goose-girl", "carter"]


def stone_soup(s):
    h = Who(
        s.rng.choice(["soldier", "pedlar", "tinker", "tramp", "fiddler", "sailor", "monk", "scholar"]), "m",
        s.rng.choice(["Tom", "Jack", "Hans", "Peter", "Conrad", "Martin", "Otto", "Piet", "Ivan", "Barnaby"]),
        s.rng.choice(["hungry", "merry", "tired", "old", "travelling"]), "[walked|tramped|strode]", home="road")
    base = s.rng.choice(["stone", "nail", "button", "horseshoe", "wooden spoon", "pebble"])
    villagers = [Who(noun, s.rng.choice("mf")) for noun in s.rng.sample(VILLAGERS, 4)]
    items = s.rng.sample(
        [
            "a cabbage", "three onions", "a bone with some meat", "a bag of barley", "a handful of carrots",
            "some salt", "a pot of butter", "a string of sausages", "a basket of beans", "two turnips",
            "a bunch of parsley", "some potatoes", "a piece of bacon", "a jug of milk"],
        4)
    s.bind(h=h, base=base, w0=villagers[0], w1=villagers[1], w2=villagers[2], w3=villagers[3])
    s.season = s.rng.choice(["autumn", "winter"])
    s.title = s.pick(
        [
            f"The {base} soup", f"Soup from a {base}", f"{h.name} and the {base}", "The clever cook",
            f"How {h.name} made soup"])
    s.say(
        "{h.intro} came [one evening|toward night] to the village of {town}.",
        "<once> {h.intro} was on the road, and [had not eaten since morning|his pockets were empty|his stomach was as "
        "empty as a drum].")
    scenery(s)
    s.p("he knocked at the first door. {w0} looked out.")
    s.talk(villagers[0], "we have nothing ourselves! [go away|try the next house].", tone="cross")
    s.p(
        "he knocked at the second, and there {w1} told him that the harvest had been bad; and at the third {w2} only "
        "[shut the shutter|called the dog].")
    s.p(
        "so {h} sat down in the market place, made a little fire, and hung his kettle over it. then he took a {base} "
        "out of his pocket, washed it with great care, and dropped it in.")
    s.p("<soon> the people came out of their doors, for they were curious.")
    s.talk(villagers[0], "what are you cooking there?", "what is that in the kettle?", tone="ask")
    s.talk(
        h,
        f"{base} soup, [the best in the world|such as the king eats on Sundays]. You shall all have some when it is "
        "done.",
        f"I am making soup of a {base}. [it needs only water and patience|it is nearly ready].", tone="reply")
    order = list(zip(range(4), items))
    for i, item in order:
        last = i == 3
        s.talk(
            h,
            *[
                f"[it smells good already|ah]! [of course, with|if only one had] {item} it would be [even better|fit "
                "for a duke]."]
             if i % 2 == 0 else
             [
                f"[hm|not bad]! [once, at the castle, I had it with|my grandmother used to put in] {item}, and that "
                "was something."],
            tone="say")
        s.p(
            f"{{w{i}}} [thought of the larder at home|went home without a word|scratched {{w{i}.his}} head], and came "
            f"back with {item}. into the kettle it went.")
    s.p(
        "it [bubbled and steamed|smelled through the whole street]. somebody brought a table, somebody brought [bowls "
        "and spoons|bread], and somebody lit a lantern. and when they had all sat down, {h} filled the bowls.")
    s.talk(villagers[3], f"[did you ever taste the like|I never ate better soup]! And all from a {base}!", tone="cry")
    s.p(
        "they ate till the kettle was empty, and then they sang, [and {w1} danced with {w2}|and {w2} told a story]. "
        "nobody had [laughed|sat together] like that for years."
        if villagers[1].gender != villagers[2].gender else
        "they ate till the kettle was empty, and then they sang, and {w2} told a story. nobody had [laughed|sat "
        "together] like that for years.")
    s.p(
        f"in the morning {{h}} took the {base} out of the kettle, dried it, and [put it back in his pocket|gave it to "
        f"{{w0}}].")
    s.talk(h, "it never fails, [if only everybody puts something in|so long as everyone brings a little].", tone="glad")
    ending(
        s, "a little from each makes enough for all", "those who have nothing together have a great deal",
        "the best soup is the one that is shared")


CONTESTS = [  # the skill, what comes of it, and how it is spent on a crying child
    ("sing", "song", "sang to it"),
    ("dance", "dance", "danced before it"),
    ("tell a story", "story", "told it a story"),
    ("build a nest", "nest", "built it a new nest"),
    ("find the best present for the spring", "present", "gave it the present that had been meant for the contest"),
]


def singing_contest(s):
    h = animal(s)
    x = animal(s)
    s.bind(h=h, x=x)
    y = animal(s)
    s.bind(y=y)
    judge = Who(
        s.rng.choice(["owl", "stag", "swan", "old raven", "bear", "eagle", "old tortoise"]), s.rng.choice("mf"),
        animal=True)
    skill, noun, kindness = s.rng.choice(CONTESTS)
    s.bind(h=h, k=judge)
    s.title = s.pick(
        [
            "The contest in the wood", "Who was the best?", f"{h.name} and the prize",
            f"The prize of the {judge.noun}", "The silver crown"])
    opening(s, h, s.pick(["timid", "kind", "lonely"]))
    task = skill if skill.startswith("find") else skill + " best"
    prize = "[silver crown|wreath of oak leaves|golden acorn|basket of honey]"
    s.p(
        f"<oneday> {{k}} let it be known among the animals that whoever could {task} should have a {prize}.",
        f"now {{k}} had promised a {prize} to whoever could {task}, and <oneday> the contest was to be held.",
        f"<oneday> there was great excitement in the wood. {{k}} would give a {prize} to the one that could {task}.")
    s.talk(x, "[the prize is as good as mine|nobody can do it better than I]!", tone="proud")
    s.talk(
        y, "yours? [wait and see|do not make me laugh]! [I was born for it|I have practised for a year].",
        tone="proud")
    s.talk(
        h, "I [should like to try too|will come as well], but I am sure to be last.",
        "may I come too? [I know that I am not very good|I only like to do it].", tone="soft")
    s.p("so they all set out. the {x.noun} and the {y.noun} were far in front, and {h} came behind.")
    s.p(
        "on the way there lay a [young bird|small mouse|baby squirrel] that had [fallen out of the nest|hurt its "
        "foot|lost its mother], and it was crying.")
    s.talk(x, "I have no time! I must not be late.", "somebody else will come by.", tone="cross")
    s.p(
        "the {x.noun} went by, and so did the {y.noun}. but {h} [stopped|could not pass]. {h.he} [comforted the little "
        "one|warmed the little one], and [carried it home|sat with it till its mother came], and to make it stop "
        f"crying {{h.he}} {kindness}.")
    s.p(
        "when {h} came to the meeting place it was over. the {x.noun} had been very fine, and the {y.noun} had been "
        "finer still.")
    s.talk(judge, "you are late, {h.know}. Where have you been?", tone="ask")
    s.p(
        "before {h} could answer, a [thrush|magpie|jay] that had seen it all called from a branch and told the whole "
        "story.")
    s.talk(
        judge, "then I know who has won. The others did it for the prize, and {h.know} did it to make somebody glad.",
        "that is the best " + noun + " that was ever heard of. Come here, {h.know}!", tone="glad")
    s.p(
        "and the prize was given to {h}, who [turned quite red|did not know where to look|shared it with the others]. "
        "even the {x.noun} [cheered|had to nod].")
    ending(s, "what is done for love is done best", "the kindest is the finest", "whoever stops to help comes in time")
