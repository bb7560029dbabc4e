"""Series 5: what is wrong, broken or too small: refused with a message, or done by the CPU with nothing lost.

A case is a command and what has to come of it: `refused` (exit code 1, a message with these words, no answer and no
file), or `finished` (exit code 0, these words among the notes, and the answer that the CPU alone gives).
"""
import collections
import json
import random

CHUNK, PROMPT, ANSWER, FLIPS = 128, 600, 24, 60
OTHER = "tiny"  # another model, of another geometry

# `extra`: beside what every run has or, where it begins with a verb, all of a command with -o. `words`: all of them.
# `saw`: what the layers of --stats-out must say, too.
Case = collections.namedtuple("Case", "what extra expected words saw", defaults=[None])


def edited(material, plan, name, edit):
    """A copy of a plan, changed."""
    path = material.work.path(f"bad.{name}.plan.json")
    content = json.loads(plan.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def retype(plan):
    """As if the plan had been made for this model in Q4_0."""
    for holder in (plan["cost"]["geometry"], *plan["layers"]):
        if "types" in holder:
            holder["types"] = dict.fromkeys(holder["types"], "Q4_0")


def loads_of(plan, layer):
    """The first and the last of the loads that bring a layer's dense parts: attention of all chunks is loaded first, then layer by
    layer the groups and the parts."""
    before = plan["attention_chunks"] or 0
    for of in plan["layers"][:layer + 1]:
        parts = [p for p in of["parts"] if p != "attention"]
        before += sum(len(g["capacities"]) for g in of["groups"]) + len(parts)
    return before - len(parts) + 1, before


def cases_one_in_flight(alone):
    """With one chunk in flight QKV and O are shared by rows: what the device was to have of them fails."""
    content = json.loads(alone.read_text())
    layer = next((i for i, of in enumerate(content["layers"]) if i > 0 and {"qkv", "o"} <= set(of.get("rows", {}))), None)
    if layer is None:
        which, load, in_layer, parts, without = "one in flight, which shares no rows", "2", [], [], None
    else:
        which, load = "QKV and O by rows", "{}-{}".format(*loads_of(content, layer))
        in_layer, parts = [f"(layer {layer})"], ["a launch of qkv failed", "a launch of o failed"]

        def without(layers):  # attention at most
            return layers[layer]["measured"]["part_launches"] <= layers[layer]["measured"]["chunks"]
    by_plan = ["--plan", alone, "--npu-from", 2]
    load = [*by_plan, "--npu-debug", f"fail-load={load}"]
    launch = [*by_plan, "--npu-debug", "fail-launch=9-60"]  # of two layers at least
    return [
        Case(f"{which}: their load fails", load, "finished", in_layer, without),
        Case("the same, --require-npu", [*load, "--require-npu"], "refused", in_layer),
        Case(f"{which}: their launches fail", launch, "finished", parts),
        Case("the same, --require-npu", [*launch, "--require-npu"], "refused", ["launch 9 fails"]),
    ]


def cases_other_model(material, other_plan):
    """The profile of another model, wherever a profile may be given, and a plan that was made from it."""
    profile, model = material.profile(OTHER), "demo"
    new, text = material.work.path("bad.new.json"), material.text("new-tales")
    similar = edited(material, material.profile(model), "similar-model", lambda p: p["model"].update(router_hash="0123456789abcdef"))
    similar_plan, _ = material.plan("bad.similar", similar, material.cost(model, CHUNK), CHUNK, PROMPT, [])
    return [
        Case("a plan from the profile of another model", ["--plan", other_plan], "refused", ["another model"]),
        Case("the same, a model of the same size", ["--plan", similar_plan], "refused", ["another model", "routers"]),
        Case("`plan`, profile of another model, this one's cost table", ["plan", profile, "--cost", material.cost(model, CHUNK),
                                                                         "--chunk", CHUNK, "-o", new], "refused", ["it was measured with"]),
        Case("`calibrate`, joining the profile of another model", ["calibrate", "-m", material.model(model), "-f", text, "--chunks", 1,
                                                                   "--in-file", profile, "-o", new], "refused", ["another model"]),
    ]


def cases(material, good, lossy):
    work = material.work
    other = edited(material, good, "other-model", lambda p: p["model"].update(router_hash="0123456789abcdef"))
    device = edited(material, good, "other-device", lambda p: p["cost"]["device"].update(name="coreml"))
    types = edited(material, good, "other-types", retype)
    version = edited(material, good, "version", lambda p: p.update(schema_version=99))
    half = work.path("bad.half.plan.json")
    half.write_text(good.read_text()[:2000])
    empty = work.path("bad.empty.plan.json")
    empty.write_text("")
    forced = ["--npu-from", 2]
    require = ["--require-npu", *forced]
    rows = [
        ("the plan of another model", ["--plan", other], "refused", "router"),
        ("a plan for another device", ["--plan", device], "refused", "coreml"),
        ("a plan for another quantisation", ["--plan", types], "refused", "found Q4_0"),
        ("a plan of another version", ["--plan", version], "refused", "version"),
        ("half a plan", ["--plan", half], "refused", "JSON"),
        ("an empty file", ["--plan", empty], "refused", "JSON"),
        ("a profile as plan", ["--plan", material.profile("demo")], "refused", "npumoe-profile"),
        ("no such file", ["--plan", work.path("none.json")], "refused", "none.json"),
        ("too little device memory", ["--plan", good, "--npu-mem", "100K", *forced], "either", "plan again"),
        ("the same, --require-npu", ["--plan", good, "--npu-mem", "100K", *require], "refused", ""),
        ("too few slots", ["--plan", good, "--slots", 3, *forced], "either", "plan again"),
        ("the same, --require-npu", ["--plan", good, "--slots", 3, *require], "refused", ""),
        ("a load fails", ["--plan", good, "--npu-debug", "fail-load=2", *forced], "finished", ""),
        ("the same, --require-npu", ["--plan", good, "--npu-debug", "fail-load=2", *require], "refused", ""),
        ("launches fail in mid-prompt", ["--plan", good, "--npu-debug", "fail-launch=9-14", *forced], "finished", ""),
        ("the same, --require-npu", ["--plan", good, "--npu-debug", "fail-launch=9-14", *require], "refused", ""),
        ("submissions fail", ["--plan", good, "--npu-debug", "fail-submit=5-8", *forced], "finished", ""),
        ("the device is late, at random", ["--plan", good, "--npu-debug", "late=1", *forced], "finished", ""),
        ("a policy that loses rows, without --lossy",
         ["--plan", lossy, *forced], "refused", "lossy"),
    ]
    return [Case(what, extra, expected, [words]) for what, extra, expected, words in rows]


def first_message(err):
    """The first line that says what is wrong."""
    return next((line for line in err.splitlines() if line.startswith("npumoe: ")), "")


def judge(result, case, answer):
    """Whether what came is what was expected."""
    said = all(words.lower() in result["err"].lower() for words in case.words)
    refused = result["code"] == 1 and said and not result["out"].strip() and "npumoe: " in result["err"] and not result["wrote"]
    finished = result["code"] == 0 and result["out"] == answer
    if case.expected == "finished":
        return finished and said and (case.saw is None or case.saw(result["layers"]))
    return refused if case.expected == "refused" else refused or finished


def run_case(material, extra):
    return material.work.try_out("run", "-m", material.model("demo"), *material.host(), "-f", material.prompt("demo", "new-tales", PROMPT),
                                 "-n", ANSWER, "--temp", 0, *extra)


def run_whole_case(material, case):
    """The result of a case, with `wrote`: there is a file that it was to write, and `layers` of --stats-out, if asked for."""
    if case.extra[0] in ("plan", "calibrate"):
        out = case.extra[case.extra.index("-o") + 1]
        out.unlink(missing_ok=True)
        return material.work.try_out(*case.extra) | {"wrote": out.exists()}
    stats = material.work.path("bad.stats.json")
    stats.unlink(missing_ok=True)
    result = run_case(material, [*case.extra, "--stats-out", stats] if case.saw else case.extra)
    layers = json.loads(stats.read_text())["layers"] if stats.exists() else None
    return result | {"wrote": False, "layers": layers}


def flipped(material, good, answer):
    """Plans with one byte changed: refused, or run; never a crash. (counts)"""
    rng, text = random.Random(5), good.read_bytes()
    path = material.work.path("bad.flipped.plan.json")
    counts = {"refused": 0, "finished": 0, "other": 0}
    for _ in range(FLIPS):
        place = rng.randrange(len(text))
        path.write_bytes(text[:place] + bytes([rng.randrange(256)]) + text[place + 1:])
        result = run_case(material, ["--plan", path])
        kind = "other"
        if result["code"] == 1 and "npumoe: " in result["err"]:
            kind = "refused"
        elif result["code"] == 0 and result["out"] == answer:
            kind = "finished"
        counts[kind] += 1
    return counts


def evaluate(material, quick):
    work = material.work
    model = "demo"

    def make():
        cost = material.cost(model, CHUNK)
        good, _ = material.plan("bad.good", material.profile(model), cost, CHUNK, PROMPT, [])
        lossy, _ = material.plan("bad.lossy", material.profile(model), cost, CHUNK, PROMPT,
                                 ["--overflow", "prune", "--all-experts", "--alone"])
        alone, one_in_flight = material.plan("bad.alone", material.profile(model), cost, CHUNK, PROMPT, ["--in-flight", 1])
        other, _ = material.plan("bad.other", material.profile(OTHER), material.cost(OTHER, CHUNK), CHUNK, PROMPT, [])
        answer = run_case(material, [])["out"]
        rows = []
        for case in cases(material, good, lossy) + cases_one_in_flight(alone) + cases_other_model(material, other):
            result = run_whole_case(material, case)
            rows.append({"case": case.what, "expected": case.expected, "code": result["code"],
                         "message": first_message(result["err"]).replace(str(work.folder), "WORK"),
                         "same_answer": result["out"] == answer, "ok": judge(result, case, answer)})
        flips = None if quick else flipped(material, good, answer)
        return {"rows": rows, "one_in_flight": one_in_flight, "flipped": flips}
    return work.step("bad-input", make)
