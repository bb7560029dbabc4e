"""Series 5: what is wrong, broken or too small: refused with a message, or done by the CPU with nothing lost.

A case is a command and what has to come of it: `refused` (exit code 1, a message with these words, no answer), or
`finished` (exit code 0, these words among the notes, and the answer that the CPU alone gives).
"""
import json
import random

CHUNK, PROMPT, ANSWER, FLIPS = 128, 600, 24, 60


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


def cases(material, good, lossy):
    """(what, arguments beside those of every run, expected, words)"""
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
    return [
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


def first_message(err):
    """The first line that says what is wrong."""
    return next((line for line in err.splitlines() if line.startswith("npumoe: ")), "")


def judge(result, expected, words, answer):
    """Whether what came is what was expected."""
    refused = result["code"] == 1 and words.lower() in result["err"].lower() and not result["out"].strip() and \
        "npumoe: " in result["err"]
    finished = result["code"] == 0 and result["out"] == answer
    return refused if expected == "refused" else finished if expected == "finished" else refused or finished


def run_case(material, extra):
    return material.work.try_out("run", "-m", material.model("demo"), *material.host(), "-f", material.prompt("demo", "new-tales", PROMPT),
                                 "-n", ANSWER, "--temp", 0, *extra)


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
        answer = run_case(material, [])["out"]
        rows = []
        for what, extra, expected, words in cases(material, good, lossy):
            result = run_case(material, extra)
            rows.append({"case": what, "expected": expected, "code": result["code"],
                         "message": first_message(result["err"]).replace(str(work.folder), "WORK"),
                         "same_answer": result["out"] == answer, "ok": judge(result, expected, words, answer)})
        flips = None if quick else flipped(material, good, answer)
        return {"rows": rows, "flipped": flips}
    return work.step("bad-input", make)
