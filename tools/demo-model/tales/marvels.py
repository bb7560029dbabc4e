"""Plots with a marvel in them: wishes, promises, riddles, a secret garden, a dream, a chain of favours."""
import re

from tales.acts import animal, child, elder, ending, grown, hero, homecoming, meet, opening, parent, set_out, walk
from tales.engine import Thing, Who

# the wish, how it is at first, the trouble, what it teaches
WISHES = [
    (
        "that everything I touch may turn to gold",
        "{h~} touched [the fence|the table|a stone] and it was gold; {h~} touched [a <flower> by the wall|the <tree> "
        "before the door], and that was gold too",
        "but the bread turned to gold between {h.his} teeth, and the water in the cup was hard and yellow. [even the "
        "cat, when it rubbed against {h~him}, stood still and shone|even {h.his} pillow was a lump of metal]",
        "gold cannot be eaten"),
    (
        "that it may never rain again",
        "the sky was blue [from end to end|day after day], and {h~} [ran about without a coat|lay in the sun from "
        "morning till night]",
        "but the <flower> hung their heads, and the brook grew thin and was gone. [the <beasts> cried for water|the "
        "well was dry, and the dust lay thick on the road]",
        "rain is a good friend in a grey coat"),
    (
        "that it may be summer all the year",
        "the <flower> bloomed and bloomed, and {h~} [had cherries every day|never put on shoes]",
        "but no apple ripened, for there was no autumn, and nobody could rest, for there was no winter. [the <bird> "
        "was hoarse with singing|the bees fell down for weariness]",
        "each season has its own gift"),
    (
        "to be as tall as a tower",
        "{h~} grew and grew, [past the roof and past the <tree>|till the clouds were about {h.his} ears], and could "
        "see the sea",
        "but there was no bed so long, and no door so high, and a pot of soup was not so much as one drop. [the "
        "children ran away, and the birds wanted to nest in {h.his} hair|nobody could hear what {h.he} said, and "
        "{h.he} heard nobody]",
        "it is best to be one's own size"),
    (
        "that I may never have to work again", "the broom swept by itself, and the bucket walked to the well",
        "but it would not stop. [the broom swept the supper from the table, and the bucket filled the house with "
        "water|the spade dug up the garden, and the needle sewed up the sleeves], and {h} sat on the roof and did not "
        "know what to do",
        "work is better than having nothing to do"),
    (
        "that all I wish to eat may be sweet", "the soup was as sweet as honey, and the potatoes were like cake",
        "but on the second day {h.his} teeth ached, and on the third {h~} could not look at a spoon. [the water was "
        "sweet, and the salt was sweet|and {h.he} would have given a kingdom for one sour pickle]",
        "too much of a good thing is too much"),
    (
        "to understand what all the animals say",
        "the sparrows were telling jokes on the roof, and {h~} laughed [all the morning|till {h.he} cried]",
        "but they never stopped. all night long [the crickets quarrelled, the mice did sums, and the owl sang the same "
        "song|the dog talked of bones and the hens of eggs], and {h} could not sleep a wink",
        "there is a time to hear and a time to be deaf"),
    (
        "that it may never be night again",
        "the sun stood still above the <tree>, and {h~} played [and played|for three days without stopping]",
        "but nobody slept, and everyone was cross. [the <bird> sang till it lost its voice|the cocks did not know when "
        "to crow], and the stars were gone, and the <flower> could not close their eyes",
        "the night is as good a gift as the day"),
    (
        "that everyone must do as I say", "{h~} said 'Jump!' and they jumped; {h.he} said 'Sing!' and they sang",
        "but nobody laughed with {h~him}, and nobody told {h~him} anything. [when {h.he} said 'Play with me!' they "
        "played like puppets|when {h.he} said 'Be my friend!' they bowed, with sad eyes]",
        "friendship does not come when it is ordered"),
    (
        "that I may be able to fly", "up {h~} went, over [the roofs|the <tree>|the mill], and the wind sang",
        "but {h~} could not come down again. [{h.he} floated past the steeple, and the crows scolded|night came, and "
        "it was cold among the clouds], and below the windows were yellow, and there was supper on the tables",
        "it is good to have one's feet on the ground"),
    (
        "that I may have the biggest pumpkin in the land",
        "it grew [as big as a tub|as big as a cart], and everyone came to see it",
        "but it went on growing. [it pushed in the door and lifted the roof|it filled the garden and blocked the "
        "road], and {h} had to sleep in the ditch",
        "the biggest is not always the best"),
    (
        "that winter may never end", "{h~} [went sliding every day|built a whole village of snow], and had rosy cheeks",
        "but the wood was burned, and the hay was eaten. [the <beasts> stood hungry in the barn|the little birds fell "
        "from the boughs], and no <flower> came",
        "nothing is fine if it lasts for ever")]


def wish_gone_wrong(s):
    h = child(s) if s.chance(0.6) else grown(s)
    first = s.rng.random() < 0.5
    giver = Who(
        s.rng.choice(
            [
                "golden fish", "fairy", "little grey man", "water nymph", "white snake", "elf", "old witch",
                "talking stone", "silver frog", "wood spirit", "star maiden"]),
        "n")
    if giver.noun in ("fairy", "water nymph", "old witch", "star maiden"):
        giver.gender = "f"
    if giver.noun in ("little grey man", "elf"):
        giver.gender = "m"
    s.bind(h=h, g=giver)
    wishes = s.rng.sample(WISHES, 2)
    s.title = s.pick(
        [
            "The foolish wish", f"{h.name or 'The ' + h.noun} and the {giver.noun}", f"The {giver.noun}",
            "Two wishes too many", f"What {h.name or 'the ' + h.noun} wished for", "The wishes"])
    opening(s, h, s.pick(["greedy", "poor", "lazy", None]))
    s.say(
        "{h~} was never content with what {h.he} had, and [was always wishing|began every sentence with the words 'I "
        "wish'|envied everyone who had more].",
        "'if only I had what I wish!' {h~} used to say, [summer and winter|ten times a day].")
    s.p(
        "<oneday> {h} found {g.a} [caught in a bramble bush|shut in an old jar|fast under a stone|tangled in a net], "
        "and set {g.him} free.",
        "<oneday>, [by the water|under a <tree>|in the wood], {h} heard a thin voice calling. it was {g.a}, caught "
        "[between two roots|in a fisherman's net|by the foot in a crack], and {h~} helped {g.him} out.")
    s.talk(
        giver,
        "you have been good to me. [you shall have a wish for it|wish for something, and it shall be yours]. But think "
        "before you speak!",
        "[for that you may wish|I grant you a wish], and if you do not like it, come back to me.",
        "one good turn deserves another. Tell me your wish, {h.noun}.")
    one_wish(s, wishes[0], first=True)
    if s.chance(0.55):
        s.p("{h} ran back to {g}, [out of breath|as pale as chalk].", "so {h} went back and called {g}.")
        s.talk(
            h, "take it away! [I was a fool|I did not think]. Let me wish once more, and this time I will be wiser.",
            "it was the wrong wish. Please give me another!", tone="beg")
        s.talk(
            giver, "[another, then|very well], but [have you thought this time|is it a better one]?",
            "[dear, dear|I was afraid of that]. Wish again!", tone="reply")
        one_wish(s, wishes[1], first=False)
        last = wishes[1]
    else:
        last = wishes[0]
    s.p(
        "then {h} [ran|went] to {g} [with bent head|once more] and [knelt down|could hardly speak].",
        ("{h} sought {g} [high and low|till evening], and found {g.him} at last in the same place."
         if giver.gender == "n" else
         "{h} sought {g} high and low, and found {g.him} at last in the same place."))
    s.talk(
        h, "I have only one wish left: let everything be as it was before!",
        "let all be as it was! [I want nothing else|I will never ask for anything again].", tone="beg")
    s.talk(
        giver, "that is the [first wise|best] wish you have made. [go home|look behind you], and be content.",
        "so you have learned it. [it is done|go home in peace].", tone="say")
    s.p(
        "and when {h} [came home|opened {h.his} eyes|looked about], everything was as it had always been. [the soup "
        "stood on the table|the <bird> sang|the <flower> stood by the door], and {h~} had never been so glad of it.")
    s.say("'how good it is!' said {h~} [to {h.self}|aloud], and [cut the bread|sat down in the sun|laughed].")
    ending(s, last[3], "it is wise to think before one wishes", "whoever is content is rich")


def one_wish(s, wish, first):
    h = s.values["h"]
    s.talk(
        h, "I wish " + wish[0] + "!", ("that is easy. " if first else "now I know! ") + "I wish " + wish[0] + "!",
        tone="glad")
    s.p("[no sooner said than done|it was so at once|and so it happened]. " + wish[1] + ".")
    s.maybe(
        0.6, "'now I am [the happiest {h.noun} in the world|as lucky as a king]!' thought {h~}.", "{h} was <happyas>.")
    s.p(wish[2] + ".")


# riddle, answer, what the hero sees that gives the answer
RIDDLES = [
    ("what goes up when the rain comes down", "an umbrella", "an old umbrella hung on the gate"),
    ("what has teeth and cannot bite", "a comb", "{h~} had a comb in {h.his} pocket"),
    ("what runs all day and never leaves its bed", "a river", "below the bridge the water rushed along"),
    ("what has one eye and cannot see", "a needle", "{h~} thought of {h.his} mother sewing by the lamp"),
    (
        "what goes with you everywhere, and is lost in the dark", "my shadow",
        "{h~} looked at the ground, and there was {h.his} shadow"),
    ("what is full of holes and yet holds water", "a sponge", "{h~} thought of washing day"),
    ("what is white when it goes up and yellow when it comes down", "an egg", "a hen was cackling in the yard"),
    ("what grows bigger the more you take away from it", "a hole", "a mole was digging in the grass"),
    ("what has hands and cannot clap", "a clock", "the clock in the tower struck"),
    ("what has a neck and no head", "a bottle", "an empty bottle lay beside the road"),
    ("who speaks every language and never went to school", "the echo", "the last word came back from the hill"),
    (
        "what has four legs in the morning, two at noon, and three in the evening",
        "a man: as a baby he creeps, then he walks upright, and when he is old he has a stick",
        "an old man went by, leaning on his stick"),
    ("what can fill a house and weighs less than a feather", "the light", "a window shone in the dusk"),
    ("what walks upon its head all day", "a nail in a shoe", "{h~} felt a nail in {h.his} shoe"),
    ("what is it that you can give away and still must keep", "my word", "{h~} remembered what {h.he} had promised"),
    ("what has roots that nobody sees, and is higher than the trees", "a mountain", "far off the mountains were blue"),
    (
        "what flies without wings and cries without eyes", "a cloud",
        "a dark cloud came over the hill, and the first drops fell"),
    ("what has a tongue and cannot talk", "a bell", "just then the bell began to ring"),
    ("what is broken when you only say its name", "silence", "it was so quiet that one could hear the leaves"),
    ("what gets wet while it dries others", "a towel", "some linen was flapping on a line"),
    (
        "what belongs to you, but other people use it more than you do", "my name",
        "somebody called {h~him} from far away"),
    (
        "what comes every night without being called, and is gone in the morning without being stolen", "the stars",
        "the first star stood above the <tree>"),
    ("what has leaves and is not a tree", "a book", "{h~} thought of the old book at home"),
    ("who builds a bridge without wood or stone", "the frost", "the pond was covered with ice")]


ANNOUNCED = [
    "listen|hear me|this is the first", "that was easy|the second is harder|now another",
    "now the last|once more|here is the third"]
GUESSED = [
    ["{k} [frowned|grunted]. it was right.", "'right,' [growled|muttered] {k}."],
    ["{k} pulled {k.his} beard. [that was right too|right again].",
     "{k} stamped {k.his} foot, for [it was right|the answer was good]."],
    ["{k} [sat still for a long time|opened {k.his} eyes wide].",
     "{k} [threw up {k.his} hands|shook {k.his} head in wonder]."],
]


def riddle_contest(s):
    h = child(s) if s.chance(0.65) else animal(s)
    m = parent(s, h)
    keeper = Who(
        s.rng.choice(
            ["troll", "giant", "old dragon", "sphinx", "dwarf", "water man", "old king", "wizard", "stone man", "ogre"]),
        "m", adj=s.rng.choice(["grey", "great", "cross", "strange", ""]))
    if keeper.noun.startswith("old"):
        keeper.adj = ""
    where = s.rng.choice(["bridge", "gate", "mountain pass", "ford", "tower door", "golden gate", "narrow path"])
    errand = s.rng.choice(
        [
            "to fetch the doctor for {h.his} {m.noun}", "to bring a cake to {h.his} cousin",
            "to sell a basket of eggs at {town}", "to ask for work at the great farm",
            "to fetch {h.his} {m.noun}'s spectacles from {town}", "to buy salt"])
    if h.animal:
        errand = s.rng.choice(
            [
                "to bring seeds to {h.his} cousin", "to fetch a healing leaf for {h.his} {m.noun}",
                "to see the sea for once", "to look for a place where the grass was greener"])
    s.bind(h=h, k=keeper, w=where, m=m)
    s.title = s.pick(
        [
            "The three riddles", f"The {keeper.noun} at the {where}", f"{h.name} and the {keeper.noun}",
            f"{h.name} guesses right", f"The riddles of the {keeper.noun}"])
    opening(s, h, s.pick(["clever", "clever", "brave"]), m)
    s.p("<oneday> {h} had to go over the hills " + errand + ".", "<oneday> {h} was sent out " + errand + ".")
    set_out(s)
    s.br()
    walk(s)
    s.p(
        "<soon> {h} came to a {w}, and there sat {k.a}, who [let nobody by|held out one great hand|had not smiled for "
        "a hundred years].")
    s.talk(
        keeper,
        "stop! Nobody passes here who cannot answer three riddles. If you fail, you must [go back|stay and wash my "
        "dishes for a year].",
        "halt, little one! [three riddles stand before this {w}|first you must guess my three riddles], or you shall "
        "not go by.",
        tone="roar")
    s.talk(
        h, "ask, then. [I have a good head|I can only try|I like riddles].", "so be it. What is the first?",
        tone="reply")
    for i, (riddle, answer, hint) in enumerate(s.rng.sample(RIDDLES, 3)):
        s.talk(
            keeper,
            f"[{ANNOUNCED[i]}]: {riddle}?",
            tone="say")
        s.p(
            "{h~} [thought and thought|shut {h.his} eyes|looked up and looked down|scratched {h.his} head]. " + hint
            + ".",
            hint + ", [and {h} smiled|and then {h} knew].")
        s.talk(
            h, f"it is {answer}.", f"[that I know|I have it|now I see]! It is {answer}.",
            tone=s.pick(["reply", "glad"]))
        s.p(*GUESSED[i])
    if s.chance(0.5):
        riddle, answer, _ = s.rng.choice(RIDDLES[:12])
        s.talk(
            h, "now I may ask one, too: who is strong enough to stop an army, and yet lets a child go by?",
            "and here is one for you: what grows when you share it with another?", tone="ask")
        if "army" in s.current[-1]:
            s.talk(keeper, "that is [I myself|myself]!", tone="glad")
        else:
            s.talk(keeper, "I do not know. [what is it|tell me]!", tone="cross")
            s.talk(h, "joy. [come and laugh with me, and you will see|you should try it].", tone="glad")
        s.p(
            "and {k} began to laugh, [so that the stones jumped|for the first time in a hundred years|till the tears "
            "ran down {k.his} nose].")
    s.talk(
        keeper,
        "[go your way|pass], little {h.noun}. You have [earned it|a good head]. And come back some day to tell me more "
        "riddles.",
        "nobody has answered all three before. Pass, and good luck to you!", tone="say")
    done = s.rng.choice(["and did what {h.he} had been sent to do", "and before evening all was done"])
    s.p("so {h} passed the {w}, " + done + ".")
    s.maybe(0.6, "on the way back {k} [waved to {h}|was still laughing|had thought of a new riddle].")
    homecoming(s, m)
    ending(
        s, "a good head opens every gate", "whoever uses both eyes finds the answer",
        "to think is better than to fight")


def promise_kept(s):
    h = child(s) if s.chance(0.5) else grown(s)
    keep = s.chance(0.5)
    m = parent(s, h) if h.noun in ("boy", "girl") else None
    giver = elder(s)
    gift, use, ban, breaking = s.rng.choice(
        [
            (
                Thing("jug", "blue"),
                "whenever it was tipped, milk ran out of it, [fresh and sweet|as much as anyone wanted]",
                "never let it stand empty-handed before a hungry guest",
                "a hungry pedlar came to the door, and {h}, who was counting the cups of milk, sent him away"),
            (
                Thing("box", "little carved"), "every morning there was a silver penny lying upon the lid",
                "never open it",
                "{h} could not sleep for wondering, and in the night lifted the lid only the breadth of a hair"),
            (
                Thing("tablecloth", "white"),
                "when it was spread, there stood [bread and roast and fruit|the best dinner in the land]",
                "never spread it for show",
                "{h} wanted to be admired, and spread it in the market place before all the people"),
            (
                Thing("fiddle", "old brown"), "whoever heard it forgot all sorrow", "never play it for money",
                "a rich man held out a purse full of gold, and {h} took it and played"),
            (
                Thing("seed", "strange black"), "it grew in one night into a tree with apples that made the sick well",
                "always give the first apple to whoever asks",
                "the first apple was so red that {h} bit into it alone, behind the barn"),
            (
                Thing("lamp", "copper"), "its light showed the way home to all who were lost",
                "never blow it out before the cock crows", "one night {h} was sleepy and blew it out, just for once"),
            (
                Thing("pot", "little iron"), "it cooked sweet porridge [all by itself|as soon as one asked politely]",
                "always say 'please' and 'thank you' to it",
                "one day {h} was in a hurry, and shouted at it and struck it with a spoon"),
            (
                Thing("mill", "little stone"), "it ground as much flour as was needed",
                "never grind more than is needed", "{h} wished to be rich, and let it grind all night long"),
            (
                Thing("ring", "plain silver"), "whoever wore it could speak with the birds", "never lend it to anyone",
                "a proud lord flattered {h} so long that the ring was lent to him for an hour"),
            (
                Thing("whistle", "reed"), "when it was blown, the lost sheep came home by themselves",
                "never blow it for fun", "the other children begged and teased, and {h} blew it for a joke")])
    s.bind(h=h, g=giver, t=gift, ban=ban)
    s.title = s.pick(
        [
            f"The {gift.bare}", f"{h.name or 'The ' + h.noun} and the {gift.noun}", "The promise",
            f"The gift of the {giver.noun}" if len(giver.noun) < 20 else "The promise", "A word is a word"])
    opening(s, h, s.pick(["poor", "kind"]), m)
    s.p("<oneday> {h} [was <work>|went to the wood for sticks|was on the way to {town}].")
    meet(
        s, "g",
        s.rng.choice(
            [
                "who had fallen down and could not rise", "who was carrying a load too heavy to bear",
                "shivering with cold", "who asked for a drink of water"]))
    s.say(
        "{h~} [helped at once|did not ask many questions, but helped|gave what help {h.he} could], and {g} "
        "[smiled|looked at {h} for a long time].")
    s.talk(
        giver, "you have a good heart. Take {t.a} from me. But you must promise me one thing: {ban}.",
        "I am not so poor as I look. This is {t.a}, and it is yours. Only promise: {ban}!")
    s.talk(h, "I promise it, [with all my heart|and here is my hand].", "that is easy. I promise.", tone="reply")
    s.p(
        (("{g} [was gone before {h} could say another word|nodded and went away over the heath]. "
          + "{h} took {t} home, and soon found out what it could do: ")
         + use)
        + ".")
    s.say(
        "from that day there was no more [want|sorrow] in the house, and the neighbours had their share."
        if gift.noun in ("jug", "box", "tablecloth", "pot", "mill") else
        "people came [from far and near|over the hills], and none went away without help.")
    if keep:
        tempt = s.rng.choice(
            [
                "a rich man came in a coach and offered a hat full of gold if {h} would forget the promise",
                "a neighbour said that nobody would ever know of it",
                "{h} was sorely tempted, for it would have been so easy"])
        s.p("once, " + tempt + ".")
        s.talk(
            h, "no. [I gave my word|a promise is a promise], and [I will keep it|I would know it myself].",
            "what I have promised I will keep, [if it costs me all|whether anyone sees it or not].", tone="reply")
        s.p("[that night|a year and a day later] {g} stood at the door again.")
        s.talk(
            giver,
            "you have kept your word. Now {t} is yours for ever, and [luck shall live in this house|your children "
            "shall have it after you].",
            "I came to see if you had forgotten. [you have not|I see you are true]. Keep it always.", tone="glad")
        s.p("and so it was: {t} [stayed in the house|never failed], and {h} [grew old with it|was honoured by all].")
        ending(
            s, "a word once given must be kept", "a promise is worth more than gold",
            "luck stays with those who keep faith")
    else:
        s.p("all went well [for a year|until the spring|for a long time]. but " + breaking + ".")
        s.say(
            "that moment there was a sound like a sigh, and {t} [crumbled to dust|cracked from top to bottom|was "
            "gone].",
            "at once {t} [grew cold and grey|fell to pieces], and its power was gone.")
        s.talk(
            h, "[what have I done|oh, why did I do it]? I gave my word, and I broke it.",
            "it was such a small promise, and I could not keep it!", tone="sad")
        s.p(
            "{h} went out to look for {g}, [over hill and dale|for three days], and found {g.him} at last [under a "
            "<tree>|by the same road where they had met].")
        s.talk(
            h,
            "I have broken my promise, and I am sorry. I do not ask for the gift again. I only wanted to tell you so.",
            tone="beg")
        s.talk(
            giver,
            "[it is hard to say that|few come back to say so]. Because you have told the truth, you shall try once "
            "more.",
            "whoever owns a fault has half mended it. [go home|go], and look behind the door.", tone="soft")
        s.p("when {h} came home, {t} was in its old place, as good as new. and this time the promise was kept.")
        ending(
            s, "it is easier to give a promise than to keep it", "whoever owns a fault has half mended it",
            "a broken word is hard to mend, but it can be done")


def secret_garden(s):
    h = child(s) if s.chance(0.7) else animal(s)
    m = parent(s, h)
    key = Thing("key", s.rng.choice(["rusty", "little", "silver", "brass", "old"]))
    friend = child(s, gender=None) if not h.animal else animal(s)
    holder = s.rng.choice(["door", "gate", "box", "chest", "cupboard"])
    s.bind(h=h, m=m, t=key, n=friend, d=holder)
    garden = holder in ("door", "gate")
    s.title = s.pick(
        [
            f"The {key.bare}", "The secret garden" if garden else f"The secret of the {holder}", f"What {h.name} found",
            f"The {holder} that was always shut", "The garden behind the wall" if garden else f"The old {holder}"])
    opening(s, h, s.pick(["lonely", "clever", None]), m)
    found = s.rng.choice(
        [
            "under a loose stone", "in the hollow <tree>", "at the bottom of the well bucket",
            "in the magpie's old nest", "when a hen scratched it out of the earth", "in the pocket of an old coat",
            "behind the clock" if not h.animal else "among the roots"])
    s.p("<oneday> {h} found {t.a} " + found + ".")
    s.talk(
        h, "[what does it open|where is its lock|whose key can this be]?", "every key has a lock. I will find it!",
        tone="ask")
    s.p(
        "{h~} tried it in [the barn door, but it was too small|the clock, but it was too large|the stable, but it did "
        "not turn]."
        if not h.animal else
        "{h~} carried it to the barn, but there it did not fit.")
    s.say(
        "then {h.he} tried it in [the chapel door|the garden house|the mill], but [it would not go in|it only "
        "scraped|a <bird> laughed at {h~him}].")
    s.maybe(
        0.7, "'that is two,' {h~} said to {h.self}. 'good things come on the third try.'",
        "'patience!' {h~} thought. 'somewhere there must be a lock for it.'")
    elder_w = elder(s)
    s.bind(e=elder_w)
    s.br()
    meet(s, "e", "resting in the sun")
    s.talk(h, "do you know what this key belongs to?", tone="ask")
    if garden:
        s.talk(
            elder_w,
            "[let me see|bless me]! That is the key to the {d} in the old wall, behind the ivy. [no one has been there "
            "since I was young|the lady who planted it went over the sea].",
            tone="reply")
        s.p(
            "{h} ran to the wall and pulled the ivy aside. there was a {d}, [green with moss|no higher than a barrel], "
            "and the key went in and turned.")
        s.p(
            "behind the {d} lay a garden. [it was all grown over|it had gone wild]: there were <flower> and <flower> "
            "up to {h.his} chin, and an old <tree> full of birds, and [a stone bench|a dry fountain|a little house of "
            "glass] in the midst.")
        s.say(
            "it was so [quiet|still] that {h} [held {h.his} breath|went on tiptoe]. a <bird> looked at {h~him} and was "
            "not afraid.")
        s.talk(
            h, "[somebody must take care of you|you poor garden], and I will do it!", "I shall come here every day.",
            tone="soft")
        s.p(
            "every day {h} went there and [pulled weeds|cut the brambles|cleared the paths|watered the <flower>]. but "
            "it was a great deal of work, and sometimes, [when the evening came|when the <bird> was silent], it was a "
            "little lonely.")
        s.p(
            "now beyond the wall lived {n.intro}, who [had been ill and was not allowed to run about|was new in the "
            "place and knew nobody|was too shy to play with the others].")
        s.talk(friend, "[what are you doing|where do you go] every day?", tone="ask")
        s.p("{h} [wanted to keep the secret|looked at the key for a long time], but then {h.he} held it out.")
        s.talk(
            h,
            "come with me. I will show you. [but you must shut your eyes|it is a secret, but it is too big for one].",
            tone="glad")
        s.p(
            "from that day they were two. {h} dug, and {n} planted, and {n} [sang|told stories], and {h} "
            "[laughed|listened].")
        s.say("{n} grew [strong|brown|merry], the garden grew green, and the <tree> bore fruit again.")
        s.p(
            "in [summer|the autumn] they opened the {d} wide and hung the key on a nail outside, so that [everyone "
            "might come in|anyone could see the <flower>]. {m} [sat on the bench|came first], and {e} brought a [rose "
            "bush|basket of plums|chair].")
    else:
        s.talk(
            elder_w,
            "that? It is the key to the old {d} [in the attic of the mill|in the church tower|at the back of the "
            "smithy]. My grandmother spoke of it. [nobody has opened it for a hundred years|they say there is a "
            "treasure in it].",
            tone="reply")
        s.p("{h} went there and found the {d}, [grey with dust|behind a heap of sacks]. the key turned, and it opened.")
        content, then = s.rng.choice(
            [
                (
                    "nothing but a bag of seeds and a letter. the letter said that they must be planted, and shared",
                    "so {h} planted them, and in [summer|spring] there came up flowers such as nobody had seen"),
                (
                    "a fiddle with four strings, and not one of them was broken",
                    "so {h} learned to play it, first badly, and then better, and at last so well that the <beasts> "
                    "stood still to listen"),
                (
                    "a book full of stories, with pictures of ships and lions",
                    "so {h} read it from the first page to the last, and then began again"),
                (
                    "a box of paints, as bright as on the first day",
                    "so {h} painted the door blue, and the gate yellow, and a <bird> on the wall"),
                (
                    "a map, and upon the map a cross beneath a great <tree>",
                    "so {h} dug there, and found a bell, which had been lost in the old wars")])
        s.p("in the {d} there was " + content + ".")
        s.say(then + ".")
        s.p("near by lived {n.intro}, who [had been ill a long time|knew nobody in the place|sat alone at the window].")
        s.talk(h, "[look what I have found|I have something to show you]! It is no fun alone.", tone="glad")
        s.talk(friend, "for me, too? [nobody ever asked me before.|may I really?]", tone="ask")
        s.p(
            "so the two [shared it|had it together], and [the days were never long again|they became friends for "
            "life]. and the {t.noun} hung upon a nail, for the {d} was never locked any more.")
    ending(
        s, "a treasure grows when it is shared", "the best secret is one that two can keep",
        "patience finds the lock for every key")


CHAINS = [
    [
        ("cow", "milk", "grass"), ("meadow", "grass", "water"), ("brook", "water", "a broom to sweep its bed"),
        ("broom-maker", "a broom", "an egg for supper"), ("hen", "an egg", "a few grains of corn"),
        ("field", "corn", "nothing at all")],
    [
        ("cobbler", "new shoes", "leather"), ("tanner", "leather", "oak bark"), ("oak", "bark", "rain upon its roots"),
        ("cloud", "rain", "a push from the wind"), ("wind", "a push", "a kite to play with"),
        ("kite-maker", "a kite", "nothing but a merry song")],
    [
        ("tailor", "a warm coat", "a piece of cloth"), ("weaver", "cloth", "wool"), ("sheep", "wool", "fresh clover"),
        ("gardener", "clover", "a bucket of water"), ("well", "water", "a new rope"),
        ("rope-maker", "a rope", "nothing but a friendly word")],
    [
        ("baker", "a cake", "flour"), ("miller", "flour", "wheat"), ("farmer", "wheat", "a mended plough"),
        ("smith", "the plough mended", "a basket of coal"), ("charcoal-burner", "coal", "a drink of milk"),
        ("goat", "milk", "nothing but a scratch behind the ear")],
    [
        ("ferryman", "a place in the boat", "a new oar"), ("carpenter", "an oar", "a plank"),
        ("forester", "a plank", "a pot of honey"), ("beekeeper", "honey", "a jar"), ("potter", "a jar", "clay"),
        ("river bank", "clay", "nothing at all")],
    [
        ("old cat", "the mouse driven from the house", "a saucer of cream"), ("dairymaid", "cream", "a new churn"),
        ("cooper", "a churn", "iron hoops"), ("smith", "iron hoops", "a bucket of cold water"),
        ("spring", "water", "nothing but that the leaves be cleared away")]]


NEEDS = {
    "milk": "a drink of milk for the baby",
    "new shoes": "new shoes before the snow came",
    "a warm coat": "a warm coat for the winter",
    "a cake": "a cake for {h.his} {m.noun}'s birthday",
    "a place in the boat": "to cross the river to {h.his} cousin's wedding",
    "the mouse driven from the house": "to be rid of the mouse that ate the cheese",
}


def chain_tale(s):
    h = hero(s, 0.35)
    m = parent(s, h)
    chain = s.rng.choice(CHAINS)[: s.rng.choice([4, 5, 6])]
    why = NEEDS[chain[0][1]]
    s.bind(h=h, m=m)
    links = [Who(noun, "n") for noun, _, _ in chain]
    s.title = s.pick(
        [
            f"How {h.name} got {chain[0][1]}", f"{h.name} and the {chain[0][0]}", "One thing for another",
            "Nothing for nothing", f"{h.name} goes from door to door"])
    if len(s.title) > 60:
        s.title = f"{h.name} goes from door to door"
    opening(s, h, s.pick(["brave", "kind", "clever"]), m, 0.3)
    s.p("<oneday> {h} wanted " + why + ".", "<oneday> {h} needed " + why + ".")
    last = len(chain) - 1
    for i, (noun, gives, asks) in enumerate(chain):
        link = links[i]
        s.bind(l=link)
        before = chain[i - 1][2] if i else chain[0][1]
        s.p(
            *[f"so {{h~}} {{h.went}} to the {noun}.", f"[off|away] {{h.he}} {{h.went}} to the {noun}."]
             if i == 0 else
             [
                f"so {{h~}} {{h.went}} [on to|to] the {noun}.",
                f"[off|away] {{h~}} {{h.went}} to the {noun}, as fast as {{h.he}} could.",
                f"then {{h~}} {{h.went}} to the {noun}."])
        want = gives if i == 0 else before
        s.talk(
            s.values["h"],
            *[f"[dear|good|kind] {noun}, [please help me|hear me]. I need " + why.replace("{h.his}", "my") + "."]
             if i == 0 else
             [
                f"[dear|good|kind] {noun}, please give me {want} for the {chain[i-1][0]}.",
                f"the {chain[i-1][0]} wants {want}. [can you give it to me|have you any to give me|will you help me]?",
                f"good day, {noun}! [I am looking for|I have come for|I have need of] {want}. It is for the "
                f"{chain[i-1][0]}."],
            tone="say")
        if i < last and "nothing" not in asks:
            s.talk(
                link, f"[gladly|with pleasure], but first bring me {asks}.",
                f"[nothing for nothing|I would if I could]. Bring me {asks}, and you shall have it.",
                f"you shall have it if you bring me {asks}.",
                f"[I have enough of it|there is plenty here], but I need {asks}. Bring me that, and we are agreed.",
                f"what will you give me for it? I want {asks}.",
                f"[yes, yes|perhaps]. But I [cannot work without|have been wishing for] {asks}.",
                f"if you can get me {asks}, [it is yours|I will give it to you].",
                f"I will, if I can have {asks} in return.", tone="reply")
        else:
            free = asks.replace("nothing but ", "") if "nothing but" in asks else None
            if free and free.startswith("that"):
                s.talk(link, "I will give it gladly, but the leaves choke me. Clear them away!", tone="reply")
                s.p("{h} cleared away the leaves with both hands.")
            elif free:
                s.talk(link, f"I ask only for {free}. [that is not much|that is all].", tone="reply")
                s.p(f"{{h}} gave {free}, [and gladly|with all {{h.his}} heart].")
            else:
                s.talk(link, "take it, [and welcome|little one]. I [have enough|ask nothing for it].", tone="reply")
            last = i
            break
    done = {
               "the plough mended": "mended the plough",
               "the mouse driven from the house": "drove the mouse from the house",
           }
    s.p(
        f"[now|then|after that] it all went [quickly|the other way round]. the {chain[last][0]} "
        f"{done.get(chain[last][1], 'gave ' + chain[last][1])}.")
    for k in range(last - 1, -1, -1):
        noun, gives, _ = chain[k]
        gift = done.get(gives, f"gave {gives}")
        brought = "mended plough" if chain[k + 1][1] in done else re.sub("^an? ", "", chain[k + 1][1])
        s.say(f"{{h~}} [brought|took|carried] the {brought} to the {noun}, and the {noun} {gift}.",
              f"the {noun} [got|was given] the {brought}, and {gift}.")
    s.p("and so at last {h} had what {h.he} wanted, [and ran home|and was <happyas>].")
    homecoming(s, m)
    ending(
        s, "one hand washes the other", "nobody in the world lives quite alone",
        "whoever does not tire of asking gets there in the end", "a friendly word costs nothing and is worth much")


def dream_tale(s):
    h = child(s) if s.chance(0.75) else animal(s)
    m = parent(s, h)
    token = s.rng.choice(
        [
            Thing("feather", "white"), Thing("shell", "silver"), Thing("leaf", "golden"), Thing("pebble", "blue"),
            Thing("star", "little tin"), Thing("button", "pearl")])
    mount = Who(
        s.rng.choice(
            [
                "white goose", "grey horse", "swan", "wind", "paper boat", "old umbrella", "moonbeam", "big owl",
                "silver fish", "stork"]),
        "n")
    country = s.rng.choice(
        [
            "the land behind the moon", "the country of lost toys", "the island of the sleeping giants",
            "the town under the lake", "the garden where the winds are born", "the castle of clouds",
            "the land where the winter sleeps", "the mountain of glass"])
    ruler = Who(s.rng.choice(["king", "queen", "old woman", "little man", "keeper", "princess"]), "m")
    ruler.gender = "f" if ruler.noun in ("queen", "old woman", "princess") else "m"
    s.bind(h=h, m=m, t=token, c=mount, country=country, k=ruler)
    s.title = s.pick(
        [
            f"{h.name}'s dream", f"The {mount.noun} at the window", f"{country}", f"The {token.bare}",
            "A journey by night"])
    opening(s, h, s.pick(["lonely", "timid", "clever", None]), m)
    s.p(
        "one [evening|night] {h} [lay awake|could not sleep]. the [moon shone through the window|wind sang in the "
        "chimney|clock ticked|stars looked in]."
        if not h.animal else
        "one night {h} lay awake, and the [moon shone in|wind sang in the <tree>].")
    s.talk(
        m, "shut your eyes, [dear|little one], and [count the sheep|think of the sea], and sleep will come.",
        "go to sleep. [tomorrow is another day|the night is short].", tone="soft")
    s.p(
        "then {h} heard a [tap|whisper|rustle]. there was a {c.noun}."
        if mount.noun not in ("wind",) else
        "then {h} heard a whisper. it was the wind.")
    s.talk(
        mount,
        "come with me! I am going to {country}, and I shall be back before [the cock crows|your {m.noun} wakes].",
        "[quick|hush]! Will you see {country}?", tone="soft")
    s.p(
        "{h~} [climbed on|held fast], and away they went, over [the roofs|the sleeping village|the <tree>], [over the "
        "sea|higher than the <bird> flies|past the edge of the clouds], till they came to {country}.")
    wonder = s.rng.choice(
        [
            "the trees had leaves of paper, and on every leaf there was a story",
            "all the clocks went backwards, and the old people grew young",
            "the houses were made of bread, and nobody was hungry",
            "everything that had ever been lost lay there in neat rows", "the flowers sang, each in a voice of its own",
            "the snow was warm and the fire was cold", "the fishes flew in the air and the birds swam in the brooks",
            "nobody walked, but everyone danced"])
    s.say("there " + wonder + ".")
    s.p("but in the midst sat {k.a} and wept.")
    s.talk(h, "why do you weep?", "what is the matter, dear {k.noun}?", tone="ask")
    trouble, help_ = s.rng.choice(
        [
            (
                "I have forgotten my own name, and nobody here knows it",
                "{h~} said over all the names {h.he} knew, one after another, and at the seventh the {k.noun} jumped "
                "up, for that was the right one"),
            (
                "I have lost the key of the morning, and so it can never be day",
                "{h~} looked in the pockets of the {k.noun}'s coat, and there was the key, in the last of all"),
            (
                "nobody has ever told me a story to the end",
                "{h~} sat down and told a story, with a beginning, a middle, and an end, and the {k.noun} listened "
                "with open mouth"),
            (
                "my crown is too heavy, and I may not take it off",
                "{h~} lifted it off, and hung it on a branch, and the {k.noun} laughed and shook {k.his} head like a "
                "pony"),
            (
                "I have a splinter in my thumb, and all my doctors are afraid to touch it",
                "{h~} took the splinter between two fingers and drew it out, so gently that it did not hurt"),
            (
                "I have not laughed for seven years",
                "{h~} made a face, and then another, and at the third the {k.noun} laughed till the towers shook")])
    s.talk(ruler, trouble + ".", tone="sad")
    s.p(help_ + ".")
    s.talk(
        ruler, "you have helped me. Take {t.a}, so that you may remember me.",
        "thank you, little {h.noun}! [carry this with you|take this], {t.a}, and think of me.", tone="glad")
    s.p(
        "then a cock crowed, far away. the {c.noun} [called|would wait no longer], and the whole land grew pale [like "
        "mist|as a picture in water], and {h} [fell and fell|shut {h.his} eyes].")
    s.p(
        "[when {h~} woke, it was|then {h} woke. it was] morning, and the sun [lay on the bed|shone in]."
        if not h.animal else
        "when {h} woke, it was morning, and the sun shone in.")
    s.talk(
        m, "[good morning|up with you]! How did you sleep?",
        "you have slept long. [what did you dream|were you dreaming]?", tone="ask")
    s.bind(pillow="leaves" if h.animal else "pillow")
    s.p(
        "{h} wanted to say that it had been a dream. but {h.he} opened {h.his} hand, and in it lay {t.a}.",
        "{h~} told everything, and {h.his} {m.noun} smiled. but when {h~} reached under the {pillow}, there was {t.a}.")
    ending(
        s, "not everything that is far away is lost", "those who help in their dreams help also by day",
        "the night has its own roads")
