"""Series 4: a plan that was made for other text.

Calibrated on tales, run on verse, on source code, and on three worst cases: a plan from the profile with its experts in
reverse order, and routing (`--routes`) that sends every token to the experts that were idlest when the plan was made,
which a plan may well have left to the host, or to those that were busiest, whose programs then overflow.
Plans are used as they come, so a chunk for which a plan is predicted to lose stays on the CPU.
"""
import json

from ablation import run_command
from exactness import WINDOW, verify

TEXTS = {"tales": "new-tales", "verse": "verse", "source code": "source", "all to the idlest": "new-tales",
         "all to the busiest": "new-tales"}
ADVERSE = {"all to the idlest": 1, "all to the busiest": -1}  # the sign of the pairs that experts are ordered by
MODELS = {"demo": 2048, "olmoe": 2048}
QUICK = {"demo": 256}
CHUNK, ROUNDS = 512, 8  # rounds at most


def chunk_of(material):
    return 128 if material.work.quick else CHUNK


def window_of(material):
    return 256 if material.work.quick else WINDOW


def reverse(profile):
    """The profile of a model whose busiest expert is the idlest one, and so on, in every layer."""
    orders = []
    for layer in profile["layers"]:
        pairs = layer["main"]["pairs"]
        order = sorted(range(len(pairs)), key=lambda e: (pairs[e], e))
        to = dict(zip(order, reversed(order)))
        source = [to[e] for e in range(len(pairs))]  # its own inverse
        orders.append(source)
        for part in ("main", "held_out"):
            layer[part]["pairs"] = [layer[part]["pairs"][e] for e in source]
            layer[part]["loads"] = [[size[e] for e in source] for size in layer[part]["loads"]]
        reverse_products(layer["coactivation"], source)
    for text in profile["texts"]:
        if "pairs" in text:
            text["pairs"] = [[row[e] for e in source] for row, source in zip(text["pairs"], orders)]
    return profile


def reverse_products(coactivation, source):
    experts, products = coactivation["experts"], iter(coactivation["products"])
    known = {}
    for i, e in enumerate(experts):
        for f in experts[i:]:
            known[frozenset((source[e], source[f]))] = next(products)
    experts = sorted(source[e] for e in experts)
    coactivation["experts"] = experts
    coactivation["products"] = [known[frozenset((e, f))] for i, e in enumerate(experts) for f in experts[i:]]


def reversed_profile(material, model):
    path = material.work.path(f"{model}.reversed.profile.json")
    path.write_text(json.dumps(reverse(json.loads(material.profile(model).read_text()))))
    return path


def routes(material, model, title):
    """Options that send every token to the idlest or the busiest experts of each layer, if that is this text."""
    if title not in ADVERSE:
        return []
    profile = json.loads(material.profile(model).read_text())
    k = profile["model"]["n_expert_used"]
    lines = ["text,token,position,part,layer," + ",".join(f"expert_{i}" for i in range(k))]
    for layer in profile["layers"]:
        pairs = layer["main"]["pairs"]
        chosen = sorted(range(len(pairs)), key=lambda e, pairs=pairs: (ADVERSE[title] * pairs[e], e))[:k]
        lines.append(f"0,0,0,main,{layer['layer']}," + ",".join(str(e) for e in chosen))
    path = material.work.path(f"{model}.{title.split()[-1]}.csv")
    path.write_text("\n".join(lines) + "\n")
    return ["--routes", path]


def plans_of(material, model, prompt):
    chunk = chunk_of(material)
    cost = material.cost(model, chunk)
    for kind, profile in (("as calibrated", material.profile(model)),
                          ("reversed", reversed_profile(material, model))):
        plan, kept = material.plan(f"drift.{model}.{kind.split()[0]}", profile, cost, chunk, prompt, [])
        yield kind, plan, kept


def run_model(material, model, prompt):
    """Rows: for each text the CPU and both plans, in turn."""
    plans = list(plans_of(material, model, prompt))
    commands = {}
    for title, kind in TEXTS.items():
        routed = routes(material, model, title)
        commands[title, "cpu-only"] = run_command(material, model, prompt, kind, extra=routed)
        for name, plan, _ in plans:
            if name == "as calibrated" or title == "tales":
                commands[title, name] = material.work.command(
                    "run", "-m", material.model(model), "-f", material.prompt(model, kind, prompt), "-c", prompt, "-n", 0, "--warmup",
                    *material.host(), "--plan", plan, "--stats-out", material.work.path("stats.json"), *routed)
    rows = []
    for (title, name), runs in material.work.in_turn(f"drift-{model}", commands, ROUNDS, warm=[material.model(model)]).items():
        row = {"text": title, "way": name, "tokens": runs[0]["tokens"], "times_s": [r["prompt_s"] for r in runs]}
        if "plan" in runs[0]:
            stats = runs[0]["plan"]
            row |= {k: stats[k] for k in ("padding", "overflow", "dropped", "device_share")}
            row["by_plan_tokens"] = stats["tokens"]
        rows.append(row)
    return {"model": model, "prompt": prompt, "rows": rows}


def check_exact(material, model, prompt):
    out, window = {}, window_of(material)
    plans = {name: plan for name, plan, _ in plans_of(material, model, prompt)}
    for title, kind in TEXTS.items():
        routed = routes(material, model, title)
        out[title] = verify(material, model, material.text(kind), plans["as calibrated"], False, None, 2, routed, window)
    out["tales, reversed"] = verify(material, model, material.text("new-tales"), plans["reversed"], False, None, 2, (), window)
    chunk = chunk_of(material)
    every, _ = material.plan(f"drift.{model}.every", material.profile(model), material.cost(model, chunk), chunk, prompt, ["--all-experts"])
    for title in ADVERSE:
        out[f"{title}, all experts on the device"] = verify(material, model, material.text(TEXTS[title]), every, False, None, 2,
                                                            routes(material, model, title), window)
    for title, kind in TEXTS.items():
        if title not in ADVERSE:
            out[title]["host_against_fp32"] = noise(material, model, material.text(kind))
    return out


def noise(material, model, text):
    """KL divergence of the CPU path's own arithmetic from fp32: what a difference of arithmetic is, on this text."""
    args = ["verify", "-m", material.model(model), "-f", text, "-c", window_of(material), "--chunks", 2, "--against", "fp32", "--json"]
    return json.loads(material.work.run(*args, *material.host())["out"])["compared"]["kl"]["mean"]


def evaluate(material, quick):
    work, models = material.work, QUICK if quick else MODELS
    timed = [work.step(f"drift-{m}", lambda m=m, p=p: run_model(material, m, p))
             for m, p in models.items()]
    exact = work.step("drift-exact", lambda: check_exact(material, "demo", models["demo"]))
    return {"timed": timed, "exact": exact}
