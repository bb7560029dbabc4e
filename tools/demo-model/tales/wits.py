"""Plots of wits and manners: the small outwits the big, food is shared, the vain and the boastful learn."""
from tales.acts import animal, beast, child, elder, ending, fresh, grown, hero, opening, parent, place, used_nouns
from tales.engine import Who


# -- the small one and the big one ---------------------------------------------------------------------------------

def small_outwits_big(s):
    h = animal(s) if s.chance(0.75) else child(s)
    b = (
        beast(s)
        if s.chance(0.7) else
        Who(
            s.rng.choice(["giant", "ogre", "troll", "robber"]), s.rng.choice("mmmf"),
            adj=s.rng.choice(["great", "fierce", "hungry", "ugly"]), went="[came|strode|tramped]"))
    p = place(s, s.rng.choice(["wood", "hill", "field"]))
    s.bind(h=h, b=b, p=p)
    s.title = s.pick(
        [
            f"The {b.noun} and the {h.noun}", f"{h.name} and the {b.noun}", f"How {h.name} fooled the {b.noun}",
            f"The clever {h.noun}", f"The {h.noun} who was not afraid", f"The hungry {b.noun}"])
    opening(s, h, s.pick(["clever", "clever", "brave", "timid"]))
    s.p(
        "now {p.at} there lived {b.a}, and [everybody was afraid of {b~him}|no one was safe|whoever met {b~him} ran "
        "away].",
        "but [in those parts|not far away] lived {b.a}, who [ate all that came in the way|was as strong as ten and as "
        "greedy as twenty|was feared by great and small].",
        "{b.a} had come to live {p.at}, and since then [nobody sang in the morning|every door was shut at dusk|there "
        "was fear in every house].")
    s.p(
        ("<oneday> {h} was [looking for food|coming home from the market|sitting in the sun|on the way to {h.his} "
         "aunt|gathering sticks] when {b} [sprang out|stepped out] from behind a [rock|bush|{tree}] [and seized "
         "{h~him}|and stood in the way]."
         if not h.animal else
         "<oneday> {h} was [looking for food|sitting in the sun|on the way to {h.his} aunt|washing {h.his} face] when "
         "{b} [sprang out|stepped out] from behind a [rock|bush|{tree}] [and seized {h~him}|and stood in the way]."),
        "<oneday> {b} caught {h} [fast asleep|by the water|at the edge of the field|before {h.he} could reach home].")
    s.talk(
        b, "ha! [I have had no breakfast|I am hungry], and you shall be my [breakfast|dinner|supper].",
        "at last I have you! [say your prayers|this time you shall not get away], for I am going to eat you.",
        "[stand still|not so fast]! You are small, but you will do for [a mouthful|one bite].", tone="roar")
    s.p(
        "{h} trembled, but {h.he} [thought quickly|kept {h.his} wits|did not show it].",
        "{h}'s heart beat like a hammer, but [{h.his} head was clear|{h.he} thought of a plan].",
        "there was no use in running. {h} [made a bow|smiled] and thought of a trick.")
    s.rng.choice([trick_well, trick_song, trick_sack, trick_strong, trick_wash, trick_fatter, trick_race])(s, h, b)
    s.maybe(
        0.7,
        "when the others heard of it, they [laughed till their sides ached|came running to hear the story|danced round "
        "{h} in a ring|could hardly believe it].",
        "and nobody in that place was afraid of {b} any more.",
        "that evening there was a feast, and everyone sang a song about {h} and {b}.")
    ending(
        s, "wit is better than strength", "a good head is worth more than strong arms",
        "the biggest mouth is not the wisest", "greed makes fools even of the mighty", "small folk need sharp wits")


def trick_well(s, h, b):
    s.talk(
        h,
        "[I would gladly be eaten|do with me as you like], but there is another {b.noun}, [bigger|stronger|fiercer] "
        "than you, who says that all this land belongs to {b.him}.",
        "you are great, my lord, but the other {b.noun} is greater. It was {b.he} who forbade me to come to you.")
    s.talk(
        b, "another? Where? [I will tear that one to pieces|show me the rascal]!",
        "there is no other! [where does the wretch live|take me there at once]!", tone="roar")
    s.p(
        "{h} led the way to a deep well, [and pointed down|and stood aside].",
        "so they went together to an old well with a broken wall.")
    s.talk(h, "down there, my lord. [look for yourself|bend over, and you will see].", tone="soft")
    s.p(
        "{b} looked over the edge, and there in the water was a face that [glared|scowled] back. {b.he} roared, and "
        "the well roared back, twice as loud.")
    s.say(
        "mad with rage, {b.he} sprang at the enemy. there was a great splash, and then it was quiet.",
        "{b.he} [jumped in|leaped down] to fight. but there was nothing there except cold water, and no way to climb "
        "out.")
    s.p("{h} [ran home as fast as {h.he} could|went home singing].")


def trick_song(s, h, b):
    s.talk(
        h,
        "eat me if you must, but let me [sing one last song|whistle one last tune|say one last verse]. It is the "
        "custom.",
        "grant me one wish before I die. [let me sing a song|I should like to sing once more].", tone="beg")
    s.talk(
        b, "[sing, then|very well], but be quick about it. I like [a little music|a tune] before dinner.",
        "one song, and not a word more!", tone="cross")
    s.p(
        "{h} [took a deep breath and|climbed upon a stone and] sang as loud as {h.he} could, [so that the hills "
        "rang|higher and higher|verse after verse].")
    s.say(
        "[the shepherd's dogs|the dogs at the farm|the hunters in the valley] heard it and [came running|pricked up "
        "their ears and came], and {b} [had to run for dear life|ran till the woods hid {b.him}|left a good piece of "
        "coat in the hedge].")
    s.talk(h, "[there are more verses|did you not like the song]! Come back and hear the end.", tone="glad")


def trick_sack(s, h, b):
    container = s.rng.choice(["sack", "barrel", "chest", "hollow log", "old oven", "cage", "big basket"])
    s.bind(c=container)
    s.talk(
        h,
        "before you eat me, settle a quarrel. My brother says that nobody so big as you could get into that {c}. I say "
        "that you can do anything.",
        "you are so large! You could never creep into this {c}, though a cat can do it.",
        "[how strange|how wonderful] it is to be great! But there is one thing that great people cannot do: they "
        "cannot get into a {c}.")
    s.talk(
        b, "[I cannot|not get into it]? I can do everything! Look here!",
        "what a silly thing to say! [watch me|I will show you].", tone="proud")
    s.p(
        "and {b} [pushed in {b.his} head, then {b.his} shoulders, and then the rest|squeezed and squeezed until {b.he} "
        "was quite inside].")
    s.say("quick as [lightning|thought], {h} [shut it fast|rolled a stone before the opening|tied it up with a rope].")
    s.talk(b, "now I have shown you! Let me out.", "it is dark in here. [open|let me out]!", tone="say")
    s.talk(
        h,
        "[by and by|not today], my lord. First you must promise [to go away and never come back|to eat nothing but "
        "turnips].",
        tone="glad")
    s.p(
        "{b} [raged and begged|shouted till evening], but in the end {b.he} had to promise, and kept the promise too, "
        "for {b.he} had been badly frightened.",
        "in the end {b} gave {b.his} word, and was let out, and slunk away with {b.his} head down.")


def trick_strong(s, h, b):
    s.talk(
        h,
        "take care! I am small, but I am stronger than you. [I can squeeze water out of a stone|I can crush a rock "
        "till the water runs out].",
        "it would be a pity if I had to hurt you. Do you see this stone? I can squeeze it till the water runs.",
        tone="proud")
    s.talk(b, "you? I should like to see that!", "[a little thing like you|nobody can do that]! Show me.", tone="cross")
    s.p(
        "now {h} had a soft [cheese|cheese, as white as a stone], and squeezed that, and the whey ran down on the "
        "ground.",
        "{h} had a ripe pear as brown as a stone, and squeezed that until the juice ran.")
    s.p(
        "{b} [picked up a stone and squeezed|took a real stone and squeezed] till {b.his} [bones cracked|eyes stood "
        "out], but [not a drop came|it stayed dry].")
    s.talk(h, "that was only play. Shall I squeeze your [paw|hand] now?", tone="glad")
    s.talk(
        b, "no, no! [I have to go|I have just remembered that I am wanted at home].",
        "[not today|another time]! I never meant to harm you.", tone="cry")
    s.p("and away {b} ran, over stock and stone, and never looked back.")


def trick_wash(s, h, b):
    s.talk(
        h,
        "[how can a person of your rank eat with dirty hands|what, eat without washing your face]? [all fine people "
        "wash before they dine|the king never does so].",
        "I see that you are no gentleman. [gentlefolk wash before meals|everyone at court washes before dinner].",
        tone="reply")
    s.talk(
        b, "do you think I have no manners? [wait here|stay where you are], and do not move!",
        "[I am as fine as the king|nobody shall say that of me]! I will wash.", tone="proud")
    s.p(
        "{b} [put {h} down|let go] and began to wash, first one side and then the other, with {b.his} eyes shut. when "
        "{b.he} looked round, there was nobody there.",
        "while {b} bent over the water, {h} slipped [into a hole|under the roots|through the hedge] and was gone.")
    s.say(
        "since that day {b} has always eaten first and washed afterwards."
        if b.animal else
        "{b} stood there with clean hands and an empty stomach.")
    s.talk(
        h, "a good appetite to you!",
        "[now you are clean|how clean you are], and [I wish you a pleasant day|so is your plate]!", tone="glad")


def trick_fatter(s, h, b):
    s.talk(
        h,
        "look how thin I am! I am nothing but skin and bones. My [brother|uncle|cousin], who is coming behind me, is "
        "[twice as fat|as round as a barrel].",
        "wait till [autumn|the new moon|harvest], and I shall be twice as fat. Now you would only break your teeth on "
        "my bones.",
        tone="beg")
    s.p("{b} [felt {h}'s ribs|looked {h} over] and grumbled, [for it was true|and thought of a fatter dinner].")
    s.talk(
        b, "[go, then|very well]! But [come back when you are fatter|do not think that I shall forget].",
        "you are thin, that is true. [run along|be off], and I will wait.", tone="cross")
    s.p(
        "{h} went off, [not too fast and not too slow|whistling]. and {b} waited, and waited, till [it rained|the moon "
        "rose|{b.his} stomach growled], but nobody fat came along. by that time {h} was safe at home, behind a strong "
        "door.",
        "{b} sat down to wait. [the sun set and the moon rose|one day passed and then another], and {h} never passed "
        "that way again. for all I know {b.he} is sitting there still.")


def trick_race(s, h, b):
    s.talk(
        h,
        "let us run a race to the [old {tree}|bridge|mill]. If you win, you shall eat me. If I win, you must leave "
        "this place for ever.",
        "you would not dare to run against me! [if I lose, eat me|if I win, you must go away].")
    s.talk(
        b, "a race with you? [ha, ha|how droll]! That will give me an appetite.",
        "[I have legs like trees|one step of mine is twenty of yours]! Done!", tone="proud")
    s.p(
        "{h} asked for one night to get ready, and in the night {h.he} went to {h.his} brother, who looked as like "
        "{h~him} as one pea is like another. the brother hid at the end of the course.")
    s.p(
        "in the morning they started. {b} [rushed off|ran] like the wind, but when {b.he} came to the goal there stood "
        "the brother and called: \"I have been here a long time!\"",
        "one, two, three, and {b} was off. but at the goal the brother [put up his head|stepped out] and said: \"So "
        "you have come at last!\"")
    s.talk(b, "[back again|that does not count|once more]! We will run it back.", tone="roar")
    s.p(
        "so they ran back, and there was {h}, [sitting in the grass|eating an apple|not even out of breath]. {b} ran "
        "to and fro till {b.he} fell down, and then [crept away|limped off] and was not seen again.")


# -- sharing ---------------------------------------------------------------------------------------------------------

KNOCKS = [
    [
        "{h~} was just going to eat when there was a [knock|tap|scratching] at the door. [outside|on the step] stood "
        "{v.a}.",
        "hardly had {h~} sat down when somebody [knocked|tapped] at the window. it was {v.a}."],
    [
        "hardly was that done when there was another knock. this time it was {v.a}.",
        "then came a second [knock|tap], and there in the snow stood {v.a}."],
    [
        "and when only [a little|the smallest part] was left, there came a third [knock|tap]. it was {v.a}, [shaking "
        "with cold|white with snow].",
        "last of all came {v.a}, [who could scarcely stand|too tired to knock twice]."]]


def sharing_food(s):
    h = hero(s, 0.35) if s.chance(0.75) else grown(s)
    m = parent(s, h) if h.noun in ("boy", "girl") or h.animal else None
    s.season = s.rng.choice(["winter", "winter", "autumn"])
    last = s.rng.choice(
        [
            "loaf of bread", "pot of soup", "honey cake", "bowl of porridge", "basket of apples", "sack of nuts",
            "round cheese", "pan of potatoes"])
    s.bind(h=h, last=last)
    s.title = s.pick(
        [
            f"The last {last.split()[-1]}", f"{h.name or 'The ' + h.noun} and the three guests", "The hungry winter",
            f"The {last} that was shared", "Enough for all", "The winter guests"])
    opening(s, h, s.pick(["poor", "kind"]), m, 0.2)
    s.p(
        "there came a hard winter. [the snow lay up to the window|the frost killed all the cabbages|nobody could get "
        "to the mill], and [food was scarce|every cupboard was empty].",
        "that year the harvest was bad, and [by Christmas|when the snow came] there was little left to eat in any "
        "house.")
    s.say(
        "one evening there was nothing left [in the house|on the shelf|in the cupboard] but one {last}.",
        "at last {h~} had only one {last}, and did not know where the next was to come from.")
    for i, key in enumerate("xyz"):
        visitor = (
            elder(s)
            if s.chance(0.4) else
            Who(
                fresh(
                    s,
                    [
                        "robin", "hare", "mouse", "old dog", "sparrow", "squirrel", "cat", "raven", "hedgehog", "fox",
                        "titmouse", "goat", "owl"],
                    used_nouns(s)),
                s.rng.choice("mf"), adj=s.rng.choice(["cold", "thin", "hungry", "little", "lame", "half-frozen"]),
                animal=True))
        s.bind(**{key: visitor, "v": visitor})
        s.p(KNOCKS[i][s.rng.randrange(2)])
        s.talk(
            visitor,
            "I have had nothing to eat [since yesterday|for two days]. [could you spare me a bite|have you a crumb for "
            "me]?",
            "I am so cold and hungry! [may I come in|let me warm myself a little].",
            "[everyone has shut the door on me|no one will let me in]. Will you?", tone=s.pick(["beg", "ask"]))
        s.talk(
            h, "[come in|come in, come in]! I have not much, but [what I have, we will share|half of it is yours].",
            "there is [little enough|not much], but nobody shall go hungry from my door.",
            "sit down by the fire. [one can always cut a piece in two|there is still some left].",
            "[come and eat|take this]. Tomorrow will [take care of itself|bring something].", tone="reply")
        if s.chance(0.6):
            s.br()
        guest = "{" + key + "}"
        s.maybe(
            0.6,
            f"so the {{last}} was divided, and {guest} [ate and grew warm|ate every crumb and smiled|sat down close to "
            "the fire].",
            (f"{guest} ate [hungrily|every crumb], and curled up by the hearth."
             if visitor.animal else
             f"{guest} ate, and [told stories of far countries|the colour came back to {{v.his}} cheeks|thanked {{h}} "
             "for every mouthful]."))
    s.p(
        "{h~} had only [one mouthful|the crumbs] left for {h.self}, but {h.he} was [not sorry|content], for it was "
        "[warm and merry|full of voices] in the room.",
        "there was almost nothing left for {h}, but {h.he} [laughed|did not mind] and went to bed.")
    ends = ["magic", "friends", "friends"]
    if s.rng.choice(ends) == "magic":
        s.p(
            "<nextday> the guests were gone. but on the table stood the {last}, as whole as before, and [whenever {h} "
            "ate of it there was always as much left|it was never empty again as long as it was shared].")
        s.say("{h} understood then that one of the three had been more than a common guest.")
    else:
        s.p(
            "<nextday> there was a noise before the door. {x} had come back with [a bag of flour|a basket of eggs|some "
            "dry nuts], and {y} had brought [a bundle of wood|a comb of honey|a string of dried mushrooms].",
            "but the three had not forgotten. <nextday> {x} came and brought [nuts|a bag of flour|turnips], {y} "
            "dragged in [a dry log|a bundle of sticks], and {z} knew of a place [where apples lay under the snow|where "
            "grain had been spilled].")
        s.say(
            "they put it all together, and there was [a better meal than anyone had had that winter|enough for many "
            "days].",
            "so each of them brought a little, and together it was a great deal.")
    ending(
        s, "a loaf that is shared feeds the most", "nobody was ever made poor by giving", "what is shared is doubled",
        "an open door brings in good luck")


# -- the vain one learns -----------------------------------------------------------------------------------------------

def vain_one(s):
    h = animal(s) if s.chance(0.65) else child(s)
    v = animal(s) if h.animal else child(s)
    pride = s.rng.choice(
        [
            ("tail", "finest tail"), ("voice", "sweetest voice"), ("coat", "smoothest coat"), ("legs", "longest legs"),
            ("eyes", "brightest eyes")]
        if h.animal else
        [
            ("curls", "finest curls"), ("hat", "finest hat"), ("coat", "finest coat"), ("shoes", "prettiest shoes"),
            ("voice", "sweetest voice")])
    s.bind(h=h, v=v, pride=pride[0], best=pride[1])
    s.title = s.pick(
        [
            f"The vain {h.noun}", f"{h.name} learns a lesson", f"{h.name} and {v.name}", f"{h.name}, who was so proud",
            "Pride and the puddle"])
    opening(s, h, "vain", None, 0.4)
    s.say(
        "most of all {h~} was proud of {h.his} {pride}.",
        "'I have the {best} in the world,' {h~} said to {h.self} [every morning|ten times a day].")
    s.p(
        "near by lived {v.intro}, who was [plain|quiet|not much to look at], but [had a good heart|always ready to "
        "help|liked by everyone].")
    s.p("<oneday> {v} [came by|met {h} in the lane|was passing with a load of sticks].")
    s.talk(
        v,
        "good morning, {h.know}! [will you help me carry this|shall we play together|will you walk with me to the "
        "brook]?",
        tone="ask")
    s.talk(
        h, "I? With you? [my {pride} would be spoiled|what would people say]! Look at me, and then look at yourself.",
        "[certainly not|never]! I have the {best} in the world, and you are [as plain as a potato|as grey as dust].",
        tone="proud")
    s.p("{v} [was hurt, but said nothing|only smiled a little|went on alone].")
    s.p(
        "[not long after|that same afternoon|the next day], {h} was [looking at {h.self} in the pond|walking along "
        "with {h.his} nose in the air|busy admiring {h.his} {pride}] "
        + "and [did not see the ditch|stepped on a loose stone|did not look where {h.he} was going]. splash! into the "
          "[mud|deep mud|black mud] {h.he} fell.")
    s.say(
        "{h~} [struggled and struggled|pulled and kicked], but the mud held {h~him} fast, and {h.he} sank deeper and "
        "deeper.")
    s.talk(h, "help! [will nobody help me|somebody, help]!", tone="cry")
    s.p("some [crows|geese|magpies] looked over the edge.")
    s.talk(
        Who("oldest of them", "n"),
        "is that the one with the {best} in the world? [how fine you look|what a pretty colour]!", tone="proud")
    s.p("and they flew away laughing. but {v} had heard the cry, and came running with a [long branch|rope|pole].")
    s.talk(
        v, "hold fast, {h.know}! I will pull. One, two, three!", "[take hold of this|catch this], and do not let go!",
        tone="cry")
    s.p(
        "{v} pulled [with might and main|with all {v.his} strength|and pulled], and at last {h} [came out|slid out "
        "upon the grass], [black from head to foot|with mud in both ears].")
    s.talk(
        h, "I laughed at you, and you have saved me. [I am ashamed.|why did you do it?]",
        "[forgive me|I was a fool]. I was unkind to you, and you came all the same.", tone="sad")
    s.talk(
        v, "[what does it matter?|that is all forgotten.] Come, the brook is near, and we will wash off the mud.",
        "anyone may fall into a ditch. [come and dry yourself|let us go home].", tone="soft")
    s.p(
        "from that time {h} [and {v} were the best of friends|spoke kindly to everyone|never boasted again].",
        "since then {h} has often been praised, but {h.he} [always says: \"It is more to be good than to be "
        "fine.\"|only shakes {h.his} head].")
    ending(
        s, "pride goes before a fall", "fine looks pull nobody out of the mud", "a good heart is the best coat",
        "it is better to be kind than to be fine")
