"""What may be seen, heard and smelled, by season: one template a line, in the notation of engine.py."""

SCENES = {
    "any": """\
the [sun|morning sun|evening sun] shone [on|over|upon] the [roofs|fields|hills|water|tree-tops|wet grass|garden wall]
a [lark|thrush|blackbird|robin|finch] [sang|was singing|whistled] [in the hedge|on a high branch|above the fields|on the gate|far away]
the [wind|breeze|air] [smelled of|brought the scent of|was full of the smell of] [hay|pine needles|wood smoke|wet earth|thyme|the sea|apples]
far off a [dog barked|bell rang|cock crowed|cart creaked|mill-wheel turned|cow lowed|shepherd's horn sounded]
[white|grey|small|soft|woolly] clouds [sailed|drifted|hung|moved slowly] over the [hills|forest|village|fields|sea]
the [brook|stream|river] [chattered|ran|murmured|gurgled|splashed] [over its stones|between the willows|under the bridge|down to the valley]
there was not a [sound|breath of wind|cloud in the sky|soul] to be [heard|seen|found]
smoke [rose|curled|went up] [straight|slowly|softly] from the [chimneys|chimney of the mill|cottages in the valley]
in the [hedges|fields|gardens|branches] the <bird> [called to its mate|sang its three notes|was busy with its nest|hopped from twig to twig]
there was a smell of <smell> [in the air|in the lane|everywhere|on the wind], and [a <bird> sang|a cart went by|the <beasts> were quiet]
[beside the road|on the hill|before the door|in the meadow] stood a [crooked|tall|great|lonely|hollow|young] <tree>, and a <bird> sat [on its topmost twig|in it|among its leaves]
the <beasts> [lay|stood|were] [in the shade|by the gate|along the fence|close together], and [the <beasts> answered them from the yard|looked over the wall|nothing else was stirring]
the [shadows of the clouds|swallows|dragon-flies|thistle seeds] [ran|flew|drifted|hurried] [over the grass|along the wall|across the water|above the <flower>]""".splitlines(),
    "spring": """\
the [primroses|violets|cowslips|daffodils|daisies] were [opening|in bloom|out|shining] [under the hedge|on the bank|by the brook|in the grass]
the [birches|willows|hawthorns|larches] were [covered with|putting out|green with] [young|tender|their first|new] leaves
[lambs|kids|calves|foals] [skipped|jumped|played|ran] [in the meadow|on the hillside|beside their mothers|among the daisies]
the [snow had melted|ice was gone|frost was over], and [every ditch was full|the brooks ran high|the paths were soft with mud]
the [cuckoo called|swallows had come back|frogs were croaking|first bees were humming] [from the wood|over the farm|in the pond|round the willows]
the [first|new|yellow|white] <flower> [came out|opened|stood] under the <tree>, and the <bird> [built its nest|sang all day|was never silent]
[a warm|a soft|a short|a sudden] rain had fallen, and [every twig of the <tree> shone|the <flower> lifted their heads|the earth smelled of <smell>]""".splitlines(),
    "summer": """\
the [bees hummed|grasshoppers chirped|butterflies danced|dragon-flies darted] [in the clover|over the lavender|in the long grass|above the pond]
the [corn|wheat|barley|rye] stood [high|tall|yellow|ripe] [in the fields|on both sides of the road|as far as one could see]
the [day|road|air|sand] was [hot|warm|dusty|still], and [the cows stood in the water|the dogs lay in the shade|even the birds were silent]
the [roses|hollyhocks|poppies|foxgloves|marigolds] [bloomed|blazed|nodded|stood] [by every door|along the wall|in the sun|among the corn]
[cherries|strawberries|raspberries|currants] [hung|shone|grew] [red|ripe|thick] [among the leaves|in the gardens|beside the path]
it was so [hot|still|warm] that [the <beasts> slept|the <flower> hung their heads|even the <bird> was silent], and the air [trembled|smelled of <smell>]
the [bees|butterflies] went from the <flower> to the <flower>, and [the <tree> gave a cool shade|a <bird> sang in the <tree>|nobody was in a hurry]""".splitlines(),
    "autumn": """\
the [leaves|beech leaves|oak leaves|yellow leaves] [fell|came down|whirled|rustled] [one by one|in the wind|upon the path|round every trunk]
the [apples|pears|plums|nuts|acorns] were [ripe|ready|dropping|being gathered], and [the barns were full|the wasps were busy|the boughs bent low]
a [grey|white|thin|thick] mist [lay|hung|crept|rose] [over the marsh|on the river|between the trees|about the fields]
the [swallows|storks|wild geese|cranes] were [flying south|gathering on the roofs|calling high in the air|gone]
[spiders' webs|drops of dew|red berries|brown ferns] [shone|glittered|glowed] [on every bush|in the low sun|along the hedge]
the <tree> had turned [yellow|red|golden|brown], and [its leaves lay on the path|the <bird> was gone from it|the wind shook it]
the air was [cool|clear|damp] and smelled of <smell>, and the last <flower> [stood|drooped|were fading] by the wall""".splitlines(),
    "winter": """\
the snow [lay|was] [deep|thick|white|soft] [on the roofs|upon the fields|in the lanes|over everything|on every branch]
[icicles|long icicles] hung from the [eaves|rocks|mill-wheel|branches|roof of the barn]
the [pond|river|lake|brook] was [frozen|covered with ice|hard as stone], and [the reeds were stiff with frost|the ducks had gone|no boat could pass]
the [wind|north wind|frost] [whistled|howled|nipped|blew] [round the corners|through the bare trees|down the chimney|over the heath]
the [stars glittered|moon shone|sun was pale and low|sky was grey with snow], and [the snow creaked underfoot|every breath was a cloud|all the birds were silent]
the <tree> [stood black|was white with frost|creaked] against the [grey|pale|red] sky, and a <winterbird> [sat|shivered|puffed out its feathers] [in it|on a bare twig]
the [<beasts>|poor <beasts>] [stood close together|were kept in the barn|left their tracks in the snow], and nobody went out [without need|who had a fire to sit by]""".splitlines(),
}
