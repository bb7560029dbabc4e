"""The list of all plots with their weights."""
from tales import friends as f
from tales import lessons as l
from tales import marvels as m
from tales import quests as q
from tales import wits as w

PLOTS = [
    (q.three_trials, 2), (q.lost_thing, 3), (q.lost_and_home, 3), (w.small_outwits_big, 4), (w.sharing_food, 2),
    (w.vain_one, 2), (m.wish_gone_wrong, 3), (m.riddle_contest, 3), (m.promise_kept, 3), (m.secret_garden, 2),
    (m.chain_tale, 2), (m.dream_tale, 3), (f.new_friend, 3), (f.quarrel_mended, 3), (f.storm_rescue, 3),
    (l.farm_year, 2), (l.timid_one, 3), (l.honest_finder, 3), (l.lazy_one, 2), (l.broken_truth, 2), (f.sick_mother, 3),
    (f.stone_soup, 2), (f.singing_contest, 2)]
