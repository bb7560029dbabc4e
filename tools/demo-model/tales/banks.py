"""Words and small phrases of the story teller: names, kinds, things, foods, weather, ways to speak."""
import re


def words(text):
    return [word.strip() for word in text.split(",")]


BOYS = words(
    "Tom, Jack, Hans, Peter, Robin, Will, Ned, Karl, Colin, Martin, Giles, Hugh, Oliver, Simon, Toby, Ben, Sam, Luke, "
    "Mark, Felix, Jasper, Rolf, Olaf, Nils, Anton, Piet, Jan, Pavel, Misha, Ivan, Dickon, Roger, Walter, Edwin, "
    "Alfred, Conrad, Franz, Henry, Arthur, Gregory, Stephen, Philip, Wat, Kit, Barnaby, Matthew, Andrew, Donald, Alec, "
    "Duncan, Owen, Evan, Gareth, Rhys, Tobias, Leo, Max, Otto, Emil, Hal, Noel, Christopher, Basil, Rupert, Cedric, "
    "Adam, Daniel")
GIRLS = words(
    "Anna, Mary, Greta, Ellen, Rose, Lily, Kate, Jenny, Elsie, Marta, Lucy, Alice, Nell, Polly, Susan, Betty, Dora, "
    "Clara, Hilda, Ingrid, Olga, Vera, Nina, Tilly, Molly, Peggy, Joan, Agnes, Edith, Flora, Hester, Ida, Janet, "
    "Karin, Lena, Mabel, Nora, Phoebe, Rachel, Sally, Tessa, Ursula, Winnie, Bertha, Cecily, Daisy, Emma, Frida, "
    "Gerda, Helen, Isabel, Julia, Katrina, Linda, Margery, Nancy, Olive, Prue, Rosalind, Sophie, Thora, Violet, Wilma, "
    "Dorothy, Ruth")
PETS = words(
    "Bramble, Thistle, Pip, Nibble, Velvet, Dapple, Clover, Burr, Tansy, Hazel, Acorn, Patch, Ginger, Fern, Dusty, "
    "Sorrel, Nutmeg, Pepper, Barley, Teasel, Cobweb, Moss, Rusty, Tumble, Button, Whisk, Scamper, Dodder, Poppy, "
    "Bracken, Midge, Bounce, Silky, Primrose, Twitch, Mopsy, Sandy, Bobtail, Snuff, Tiptoe, Juniper, Crumb, Fidget, "
    "Grizzle, Mottle, Plum, Russet, Sprig, Tawny, Whitefoot, Longwhiskers, Softear, Quickfoot, Brownie, Feather, "
    "Pebble, Reed, Willow")
FAMILY = words(
    "Barley, Applegarth, Brook, Miller, Thorn, Hedges, Fairweather, Woodley, Greenaway, Dale, Marsh, Hill, Fenn, "
    "Nettle")

# noun | ways it moves | home | food | trait of its kind
SMALL_ANIMALS = [line.split(" / ") for line in """\
rabbit / [hopped|ran|scampered] / burrow under the hill / a bunch of clover
mouse / [crept|ran|scurried|pattered] / hole behind the barn / a crust of cheese
squirrel / [leaped|scampered|ran] / hollow oak / a store of nuts
hedgehog / [trotted|shuffled|pattered] / heap of dry leaves / a sweet windfall apple
frog / [hopped|jumped] / pool among the reeds / a fat fly
mole / [shuffled|crept|trotted] / tunnel beneath the meadow / a few tender roots
duckling / [waddled|paddled|pattered] / nest by the pond / a bit of duckweed
sparrow / [flew|fluttered|hopped] / nest under the eaves / a few crumbs
wren / [flew|fluttered|hopped] / nest in the ivy / a few seeds
robin / [flew|hopped|fluttered] / nest in the garden wall / a red berry
lamb / [trotted|skipped|ran] / fold on the hillside / some sweet grass
kid / [skipped|trotted|leaped] / shed beside the barn / a green cabbage leaf
kitten / [crept|ran|trotted] / basket by the stove / a saucer of milk
puppy / [ran|trotted|bounded] / kennel in the yard / a bone
piglet / [trotted|ran] / sty behind the farm / a turnip
beaver / [paddled|shuffled|trotted] / lodge in the river / some willow bark
otter / [swam|ran|slipped] / den in the river bank / a small silver fish
fawn / [stepped|trotted|ran] / thicket of young birches / some tender leaves
tortoise / [crawled|crept|plodded] / hollow by the garden wall / a lettuce leaf
foal / [trotted|galloped|ran] / stable by the mill / a handful of oats
cricket / [hopped|crept] / crack beside the hearth / a blade of grass
dormouse / [crept|climbed|scurried] / nest in the hazel bush / a hazelnut
chick / [ran|pattered|hopped] / coop in the farmyard / a grain of corn
gosling / [waddled|pattered|paddled] / nest among the rushes / some young grass
hare / [ran|bounded|leaped] / form in the long grass / a bunch of parsley
badger / [trotted|shuffled] / sett beneath the beech tree / a piece of honeycomb
jackdaw / [flew|hopped|flapped] / hole in the church tower / a crust of bread
field-mouse / [crept|scurried|ran] / nest among the wheat / an ear of corn
kingfisher / [flew|darted] / hole in the river bank / a minnow
toad / [crawled|hopped|crept] / hole beneath a flat stone / a plump worm
water-rat / [swam|scurried|ran] / bank of the stream / a juicy reed
goose / [waddled|flapped|marched] / pen beside the pond / a handful of grain
donkey / [trotted|plodded|ambled] / shed behind the mill / a purple thistle
starling / [flew|fluttered] / chimney of the old house / a ripe cherry
swallow / [flew|darted|swooped] / nest under the barn roof / a gnat
""".splitlines()]
BIG_ANIMALS = words("bear, wolf, fox, lion, wild boar, bull, eagle, wild cat, tiger, weasel, hawk, leopard")
OLD_FOLK = [
    ("old woman", "f"), ("old man", "m"), ("beggar", "m"), ("old beggar woman", "f"), ("pedlar", "m"),
    ("shepherd", "m"), ("tinker", "m"), ("dwarf", "m"), ("hermit", "m"), ("wandering fiddler", "m"),
    ("old soldier", "m"), ("gypsy woman", "f"), ("grandmother with a bundle of sticks", "f"), ("little grey man", "m"),
    ("fisherman", "m"), ("washerwoman", "f"), ("herb woman", "f"), ("charcoal-burner", "m"), ("ferryman", "m"),
    ("goose-girl", "f")]
CRAFTS = words(
    "miller, baker, tailor, shoemaker, weaver, fisherman, woodcutter, farmer, smith, potter, carpenter, gardener, "
    "basket-maker, clockmaker, cooper, shepherd, cobbler, candle-maker, toymaker, bell-founder, saddler, thatcher, "
    "beekeeper, lacemaker, glassblower, ferryman, tinsmith, cheesemonger, ropemaker, hatter, goldsmith, bookbinder")
GOOD_TRAITS = words(
    "kind, gentle, patient, honest, cheerful, generous, faithful, thoughtful, good-hearted, friendly, helpful, "
    "willing, merry, modest, tender-hearted, warm-hearted")
COLOURS = words(
    "red, blue, green, yellow, white, black, brown, grey, golden, silver, scarlet, purple, crimson, violet, pink, "
    "orange, snow-white, sky-blue, rose-red, dark green, pale blue, russet, amber, ivory")
HOLD = {
    "key": "iron, silver, golden, brass, rusty, copper, little, crooked",
    "ring": "golden, silver, plain, ruby, copper",
    "thimble": "silver, brass, golden, little",
    "comb": "ivory, horn, silver, tortoise-shell",
    "whistle": "tin, silver, wooden, reed",
    "bell": "silver, brass, little, golden, copper",
    "cup": "silver, wooden, golden, blue, pewter",
    "ball": "red, golden, woollen, blue",
    "ribbon": "red, blue, green, yellow, silken, white",
    "lantern": "brass, tin, little, old",
    "flute": "wooden, silver, reed, ivory",
    "button": "golden, silver, pearl, brass, red",
    "spoon": "silver, wooden, horn, golden",
    "feather": "white, blue, golden, red",
    "mitten": "red, woollen, blue, striped, green",
    "scarf": "red, woollen, green, striped, silken",
    "doll": "wooden, rag, china, little",
    "top": "red, wooden, painted, humming",
    "drum": "little, red, tin, painted",
    "knife": "little, sharp, silver, old",
    "mirror": "little, silver, round, old",
    "locket": "golden, silver, little, old",
    "watch": "silver, golden, old",
    "cap": "red, blue, woollen, green, velvet",
    "bucket": "wooden, tin, blue, old",
    "kettle": "copper, black, iron, little",
    "basket": "willow, little, round, covered",
    "needle": "silver, sharp, golden, long",
    "marble": "blue, green, glass, red",
    "shell": "pink, white, sea, pearly",
    "penny": "silver, bright, new, copper",
    "purse": "leather, red, knitted, velvet",
    "fiddle": "old, brown, little, cherry-wood",
    "boat": "toy, little, wooden, painted",
    "kite": "red, paper, blue, yellow",
    "book": "old, red, little, picture",
    "brooch": "silver, amber, golden, pearl",
    "shoe": "red, wooden, silver, little",
    "necklace": "coral, amber, pearl, glass",
    "egg": "blue, speckled, golden, white",
    "seed": "little, black, golden, strange",
    "candle": "white, red, little, wax",
    "pipe": "clay, wooden, reed, silver",
    "hammer": "little, iron, old, heavy",
    "umbrella": "green, red, old, big",
    "pot": "iron, little, black, copper",
    "acorn": "golden, brown, polished, carved",
    "pebble": "white, round, shining, striped",
    "star": "paper, tin, glass, silver",
    "cloak": "red, warm, grey, green",
    "blanket": "blue, woollen, warm, striped",
    "jug": "blue, brown, china, milk",
    "crown": "little, golden, silver, paper",
    "compass": "brass, little, old, ship's",
    "rattle": "silver, wooden, little, painted",
    "trumpet": "brass, tin, golden, little",
}
FOODS = words(
    "a loaf of bread, a piece of cheese, a honey cake, an oat cake, a slice of bread and butter, an apple, a handful "
    "of nuts, a pear, a currant bun, a bowl of porridge, a baked potato, a slice of cold pie, a ginger biscuit, a "
    "boiled egg, a barley cake, a crust of brown bread, a handful of cherries, a plum tart, a piece of sausage, a seed "
    "cake, a raisin bun, a handful of berries, a wheaten roll, a pancake, a little cold ham, a square of gingerbread")
CARRIED = words(
    "a loaf of bread, a piece of cheese, a honey cake, an oat cake, an apple, a handful of nuts, a pear, a currant "
    "bun, a slice of cold pie, a ginger biscuit, a barley cake, a crust of brown bread, a plum tart, a seed cake, a "
    "wheaten roll, a raisin bun, a pancake, a square of gingerbread, a slice of bread and butter, a piece of dried "
    "fish, a fig cake")
SUPPERS = words(
    "hot soup, porridge and milk, potatoes and butter, bread and honey, bean soup, apple dumplings, pancakes and jam, "
    "barley broth, toasted cheese, cabbage soup with bacon, eggs and fresh bread, fried fish, baked apples and cream, "
    "mushroom stew, rice pudding, pea soup, a big meat pie, warm milk and rolls, turnip stew, buttered oat cakes")
TREES = words(
    "oak, beech, birch, ash, elm, willow, pine, fir, hazel, alder, chestnut, lime tree, rowan, holly, apple tree, pear "
    "tree, hawthorn, poplar, walnut tree, cherry tree, larch, elder")
FLOWERS = words(
    "daisies, primroses, cowslips, violets, bluebells, poppies, cornflowers, foxgloves, buttercups, roses, lilies, "
    "marigolds, pinks, snowdrops, forget-me-nots, harebells, hollyhocks, dandelions, pansies, wild thyme, sweet peas, "
    "daffodils")
TOWNS = words(
    "Appledore, Millbrook, Thornby, Greenhill, Ashford, Wendle, Marlow, Oakham, Hollin, Fernley, Stowe, Brackley, "
    "Hazelby, Underhill, Long Barrow, Seaford, Rookhope, Merriden, Foxton, Larkfield, Cold Spring, Willowby, Eastwick, "
    "Netherby")

PLACES = {
    "wood": words(
        "wood, forest, pine wood, beech wood, dark forest, oak wood, great forest, birch wood, fir wood, old forest"),
    "hill": words("hill, mountain, green hill, steep hill, windy hill, rocky mountain, high moor, bare hill"),
    "water": words("river, brook, lake, pond, stream, mill-pond, deep pool, mill-stream"),
    "field": words(
        "meadow, field, orchard, garden, cornfield, pasture, hayfield, vineyard, turnip field, clover field"),
    "house": words(
        "mill, barn, old tower, inn, bakery, ruined castle, stable, little hut, shepherd's hut, empty house, old "
        "church"),
}
SETTINGS = words(
    "at the edge of a great forest, in a village by the sea, at the foot of a high mountain, beside a wide river, in a "
    "little house on a hill, in a green valley, near the old mill, on a small farm, in a town with a red wall, by the "
    "side of the king's highway, on an island in a lake, in a cottage with a thatched roof, beyond the moor, between "
    "the forest and the sea, in a narrow street behind the church, at the end of a long lane, on the border of a wide "
    "heath, in a hut of logs, under the shadow of a castle, where two roads meet, near the harbour, in the far north, "
    "in a crooked little house, not far from the market town, at the top of a winding path, in the middle of an "
    "orchard")

MACROS = {  # <word> in a template: one of these, another each time as long as there is one
    "soon": ["soon", "before long", "presently", "by and by", "in a little while", "after a while", "not long after"],
    "oneday": [
        "one day", "one morning", "one fine day", "early one morning", "it happened one day that",
        "one bright morning", "one afternoon", "it came to pass one day that", "on a certain day", "one market day",
        "one Monday morning",
        "one [windy|grey|rainy|misty|fine|cold|quiet|clear|sunny|cloudy] [morning|afternoon|day]",
        "one {season} [morning|afternoon|day]",
        "one day [toward noon|before breakfast|after dinner|in {season}|at noon]",
        "on a [windy|grey|misty|fine|quiet|clear] {season} [morning|day]",
        "one [Tuesday|Thursday|Friday|Saturday|Sunday]",
        "one day when [the wind blew from the west|the air smelled of <smell>|the <bird> was singing|there was little to do]",
        "one [morning|day] while the dew was still on the grass", "it was on a {season} [morning|day] that",
        "early one {season} morning"],
    "once": [
        "once upon a time", "once", "long ago", "in the old days", "many years ago", "a long time ago",
        "in days gone by", "once, long, long ago", "when the world was younger", "one time", "a great while ago",
        "in my grandmother's time", "some hundred years ago", "before the railway came",
        "in the days of the good old king", "in the time of our fathers", "I do not know how many years ago",
        "in the year of the great frost", "not so very long ago", "once on a time"],
    "lived": ["lived", "there lived", "dwelt", "there dwelt"],
    "nextday": [
        "the next day", "the next morning", "when the sun rose", "at daybreak", "early in the morning",
        "on the morrow", "as soon as it was light", "the following morning", "when the cock crowed",
        "at the first light of day", "when morning came", "the day after", "at sunrise", "before the <bird> was awake",
        "when the night was over", "as soon as the sun was up", "the next day, toward noon"],
    "flower": FLOWERS,
    "tree": TREES,
    "colour": COLOURS,
    "trade": CRAFTS,
    "supperdish": SUPPERS,
    "bird": words(
        "lark, thrush, blackbird, robin, finch, wren, magpie, cuckoo, titmouse, linnet, starling, jay, swallow, "
        "nightingale, wagtail"),
    "winterbird": words("robin, wren, finch, titmouse, sparrow, blackbird, crow, jackdaw"),
    "beasts": words(
        "cows, sheep, goats, geese, hens, horses, ducks, pigs, oxen, dogs, cats, bees, sparrows, pigeons, donkeys"),
    "happyas": words(
        "as happy as a lark, as merry as a cricket, as pleased as a cat with a dish of cream, as light as a feather, "
        "as gay as a finch in May, as glad as the sun in June, happier than a king, as proud as a cock on a fence, "
        "as warm as toast inside"),
    "smell": words(
        "wood smoke, new bread, wet leaves, hay, apples, thyme, honey, the sea, mint, pine needles, rain, warm milk, "
        "cinnamon"),
    "number": words("three, four, five, six, seven, eight, nine, ten, twelve, twenty, a hundred"),
    "work": words(
        "mending a fence, chopping wood, feeding the hens, milking the goat, sweeping the yard, carrying water, "
        "digging potatoes, shelling peas, hanging out the washing, picking beans, churning butter, raking leaves, "
        "patching a roof, stacking hay, peeling apples, scrubbing the steps, weeding the onions, plucking a goose, "
        "sorting feathers, oiling the hinges"),
    "play": words(
        "playing at marbles, flying a kite, sailing boats of bark, making a dam in the brook, looking for birds' "
        "nests, making daisy chains, throwing stones into the pond, rolling a hoop, climbing trees, playing hide and "
        "seek, building a house of branches, blowing bubbles, skipping with a rope, drawing pictures in the sand"),
}


# Exchanged in any sentence that tells: a pattern, then what may stand for it without a change of meaning.
VARIANTS = [(re.compile(pattern), options.split("|")) for pattern, options in (line.split(" / ") for line in r"""
(?<!all )at once / at once|straight away|without delay|right away
began to / began to|started to
for a long time / for a long time|for a long while|a good long while
looked at / looked at|gazed at
\bthe next day / the next day|the next morning|on the following day|the day after
\bat last / at last|in the end|finally|at long last
\bnobody / nobody|no one
\beveryone / everyone|everybody
\bafraid of / afraid of|frightened of
\bbeautiful / beautiful|lovely|fair
\bwept / wept|cried
\bnot far from / not far from|near|close to
\bevery day(?! after) / every day|day after day|each day
\ball day long / all day long|from morning till night|the whole day|from dawn to dusk
\bonce more / once more|again|one more time
\bnothing but a / nothing but a|only a|just a
\bcould hardly / could hardly|could scarcely
\bhardly had / hardly had|scarcely had
(?<!came )(?<!called )\bupon the / upon the|on the
\buntil / until|till
\btoward / toward|towards
\bperhaps / perhaps|maybe|it may be
\ba big / a big|a large|a great big
^then\b / then|then|after that|presently|and then|thereupon
^but\b / but|but|yet|however,
^and so\b / and so|so|thus
(?<!too )(?<!so )(?<!as )\bsoon\b / soon|before long|shortly
\bclimbed / climbed|clambered
\bhurried / hurried|hastened
\bfetched / fetched|brought|went and got
\bjust then / just then|at that moment|at that very moment
\ball at once / all at once|suddenly|of a sudden
\bin the evening / in the evening|toward evening|when evening came
\bthe others / the others|the rest
\bof course / of course|certainly|to be sure
\bnear by / near by|close by|not far off
\bwent on / went on|kept on
\bover the hills / over the hills|across the hills
\bever after / ever after|ever afterwards
\btold everything / told everything|told it all
\bpicked up / picked up|took up
\bterrible / terrible|dreadful|fearful
""".strip().splitlines())]

TONES = {
    "say": (
        ["said", "said", "said", "said", "said", "began", "said"],
        ["quietly", "kindly", "slowly", "in a low voice", "politely", "gravely", "at last", "gently", "thoughtfully"]),
    "ask": (
        ["asked", "asked", "said", "inquired"],
        ["kindly", "curiously", "in surprise", "gently", "politely", "at once", "softly"]),
    "reply": (
        ["answered", "replied", "said", "said", "returned"],
        ["quietly", "at once", "politely", "truthfully", "after a moment", "gravely"]),
    "cry": (
        ["cried", "called", "exclaimed", "shouted"],
        ["loudly", "in surprise", "aloud"]),
    "glad": (
        ["cried", "laughed", "said", "exclaimed"],
        ["happily", "with a smile", "joyfully", "merrily", "gladly", "with shining eyes"]),
    "sad": (
        ["said", "sighed", "sobbed", "said", "moaned"],
        ["sadly", "with tears", "in a small voice", "mournfully", "faintly", "sorrowfully"]),
    "soft": (
        ["whispered", "murmured", "said"],
        ["softly", "gently", "very softly", "gently", "shyly"]),
    "cross": (
        ["grumbled", "snapped", "growled", "said", "muttered"],
        ["crossly", "in a rough voice", "angrily", "sourly", "gruffly"]),
    "roar": (
        ["roared", "bellowed", "growled", "shouted"],
        ["fiercely", "in a terrible voice", "so that the ground shook", "furiously"]),
    "proud": (
        ["said", "boasted", "declared", "cried"],
        ["proudly", "grandly", "scornfully", "haughtily", "with a toss of the head"]),
    "beg": (
        ["begged", "pleaded", "cried", "said"],
        ["humbly", "with tears", "anxiously", "earnestly", "in a trembling voice"]),
}
BEATS = {
    "say": [
        "@ nodded.", "@ thought for a moment.", "@ looked up.", "@ smiled.", "@ scratched {_w.his} head.",
        "@ waited a moment.", "@ came nearer."],
    "ask": [
        "@ tilted {_w.his} head to one side.", "@ stopped short.", "@ stared.", "@ looked up in surprise.",
        "@ came a little closer."],
    "reply": [
        "@ shook {_w.his} head.", "@ nodded gravely.", "@ thought it over.", "@ looked down at the ground.",
        "@ sighed."],
    "cry": ["@ jumped up.", "@ started.", "@ ran forward.", "@ could hardly speak for wonder."],
    "glad": [
        "@ laughed aloud.", "@ clapped for joy.", "@ danced round and round.", "@ smiled from ear to ear.",
        "@ could not keep still."],
    "sad": [
        "@ hung {_w.his} head.", "@ wiped {_w.his} eyes.", "@ sighed deeply.", "@ began to cry.",
        "@ could scarcely speak."],
    "soft": ["@ leaned closer.", "@ looked all about.", "@ spoke so low that it was hard to hear."],
    "cross": ["@ frowned.", "@ scowled.", "@ stamped {_w.his} foot.", "@ did not even look round."],
    "proud": ["@ tossed {_w.his} head.", "@ puffed out {_w.his} chest.", "@ laughed scornfully."],
    "beg": ["@ fell upon {_w.his} knees.", "@ trembled.", "@ wept."],
    "roar": ["@ glared about.", "@ stamped until the ground shook.", "@ showed {_w.his} teeth."],
}
