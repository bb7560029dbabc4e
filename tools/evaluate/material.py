"""What is measured: texts, models, profiles, cost tables, plans. Made where missing, from seeds.

Tales are what tools/demo-model/stories.py writes; verse is made by verse.py; source code is this repository's. Models
that are as large as real ones come from tools/mkmodel: random weights, routers whose loads are as uneven as those of
trained models. Prompts are cut from texts so that they have a given number of tokens.
"""
import json
import statistics
import sys

import verse

TALES_SEED, PROMPT_SEED = 11, 12
# Of 2048 tokens: all tales, where that takes no more than two minutes. Plans from the first eight windows were 14 % slower
# on other tales.
MOST_WINDOWS, WINDOWS = 40, {"olmoe16": 16, "qwen16": 16}
# Cost tables: how many, and that nearly all numbers were met twice
LEAST_TABLES, MOST_TABLES, NEAR, CONFIRMED_SHARE = 3, 10, 1.06, 0.9

# The layers that a model needs for runs of seconds; the last layer of a prompt computes one row only.
MODELS = {
    "olmoe": {"title": "OLMoE-1B-7B geometry", "preset": "olmoe-1b-7b", "layers": 3, "of": 16},
    "qwen3": {"title": "Qwen3-30B-A3B geometry", "preset": "qwen3-30b-a3b", "layers": 3, "of": 48},
    "phi": {"title": "Phi-tiny-MoE geometry", "preset": "phi-tiny-moe", "layers": 8, "of": 32},
    "olmoe16": {"title": "OLMoE-1B-7B geometry", "preset": "olmoe-1b-7b", "layers": 16, "of": 16},
    # So many layers that 120 programs are too few even for the plans with the fewest, of some 9 a layer, and 3.5 GB for all experts
    "qwen16": {"title": "Qwen3-30B-A3B geometry", "preset": "qwen3-30b-a3b", "layers": 16, "of": 48},
    "tiny": {"title": "a tiny OLMoE", "preset": "tiny-olmoe", "layers": 3, "of": 3},
}
TYPE = "Q4_K_M"


class Material:
    """Paths of things, which exist when they are returned."""

    def __init__(self, work, host_isa, verse_file=None):
        self.work = work
        self.host_isa = host_isa
        self.verse_file = verse_file

    # ---- texts -------------------------------------------------------------------------------

    def text(self, kind):
        path = self.work.path(f"{kind}.txt")
        if path.exists():
            return path
        if kind in ("tales", "new-tales"):
            self._tales(path, TALES_SEED if kind == "tales" else PROMPT_SEED)
        elif kind == "verse":
            path.write_text(self.verse_file.read_text() if self.verse_file else verse.write(20, 60000))
        elif kind == "source":
            files = sorted((self.work.root / "src/moe").glob("*.c"))
            path.write_text("".join(f.read_text() for f in files)[:200000])
        else:
            raise KeyError(kind)
        return path

    def _tales(self, path, seed):
        folder = self.work.path(f"tales-{seed}")
        size = "0.02" if self.work.quick else "0.3"
        self.work.call([sys.executable, str(self.work.root / "tools/demo-model/stories.py"), "--seed", str(seed),
                        "--megabytes", size, str(folder)])
        path.write_text("".join(f.read_text() for f in sorted(folder.glob("*.txt"))))

    def prompt(self, model, kind, tokens):
        """A file whose text has so many tokens for this model, or one or two fewer."""
        path = self.work.path(f"{model}.{kind}.{tokens}.txt")
        if path.exists():
            return path
        text = self.text(kind).read_text()
        low, high = 0, min(len(text), 8 * tokens)
        while high - low > 1:
            middle = (low + high) // 2
            path.write_text(text[:middle])
            result = self.work.run("tokenize", "-m", self.model(model), "-f", path, "--ids")
            if len(json.loads(result["out"])) <= tokens:
                low = middle
            else:
                high = middle
        path.write_text(text[:low])
        return path

    # ---- models ------------------------------------------------------------------------------

    def model(self, name):
        if name == "demo":
            return next((self.work.root / "models").glob("npumoe-*.gguf"))
        path = self.work.path(f"{name}.gguf")
        if not path.exists():
            m = MODELS[name]
            self.work.say(f"making {path.name}")
            self.work.call([str(self.work.mkmodel), "--preset", m["preset"], "--layers", str(m["layers"]), "--type",
                            TYPE, str(path)])
        return path

    def profile(self, name, kind="tales"):
        windows = 1 if self.work.quick else WINDOWS.get(name, MOST_WINDOWS)
        path = self.work.path(f"{name}.{kind}.{windows}.profile.json")
        if not path.exists():
            self.work.say(f"calibrating {name} on {kind}")
            size = ["-ub", "512"] if self.work.quick else []
            self.work.run("calibrate", "-m", self.model(name), "-f", self.text(kind), "--restart", "--chunks", windows,
                          *size, "-o", path)
        return path

    # ---- plans -------------------------------------------------------------------------------

    def host(self):
        return ["-t", 1, "--isa", self.host_isa]

    def cost(self, name, chunk):
        """One table for each chunk size: of each number the median of some tables, measured one after the other until
        two say the same. Not the least: a number takes milliseconds, in which a machine may be as quick as it ever is; a
        prompt takes seconds, in which it never is all the time."""
        path = self.work.path(f"{name}.{chunk}.cost.json")

        def make():
            profile, tables = self.profile(name), []
            while not tables or not (self.work.quick or len(tables) == MOST_TABLES or are_confirmed(tables)):
                command = self.work.command("plan", profile, "--chunk", chunk, *self.host(), "--save-cost", path, "-q", "-o",
                                            self.work.path("unused.plan.json"))
                self.work.measure(f"cost-{name}-{chunk}", [command])
                tables.append(json.loads(path.read_text()))
            path.write_text(json.dumps(median_of(tables)))
            return {"tables": len(tables)}
        self.work.step(f"cost-{name}-{chunk}", make)
        return path

    def plan(self, label, profile, cost, chunk, prompt, options):
        """A plan and what it predicts for a whole prompt."""
        path = self.work.path(f"{label}.plan.json")
        chunks = max(1, -(-prompt // chunk))
        past = ["--prompt-tokens", prompt]
        self.work.run("plan", profile, "--cost", cost, "--chunk", chunk, *past, *options, "-q", "-o", path)
        plan = json.loads(path.read_text())
        return path, summary(plan, chunks)


def are_confirmed(tables):
    """Whether of nearly all numbers the second least is near the least."""
    if len(tables) < LEAST_TABLES:
        return False
    pairs = [sorted(n)[:2] for n in zip(*(list(numbers_of(t)) for t in tables)) if min(n) > 0]
    return sum(b <= NEAR * a for a, b in pairs) >= CONFIRMED_SHARE * len(pairs)


def numbers_of(value):
    if isinstance(value, (dict, list)):
        for v in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(v)
    elif isinstance(value, float):
        yield value


def median_of(tables):
    """One table, number by number; what else is in them is the same in all."""
    first = tables[0]
    if isinstance(first, dict):
        return {key: median_of([t[key] for t in tables]) for key in first}
    if isinstance(first, list):
        return [median_of(values) for values in zip(*tables)]
    return first if first is None or isinstance(first, (bool, str)) else statistics.median_low(tables)


def summary(plan, chunks):
    """What of a plan is kept: predictions for a prompt of so many chunks, sizes."""
    p, groups = plan["predicted"], [g for layer in plan["layers"] for g in layer["groups"]]
    return {"predicted_s": round(p["us"] * chunks * 1e-6, 5), "predicted_host_s": round(p["host_us"] * chunks * 1e-6, 5),
            "predicted_device_s": round(p["device_us"] * chunks * 1e-6, 5),
            "cpu_only_s": round(plan["cpu_only"]["us"] * chunks * 1e-6, 5),
            "bound_s": round(plan["bound_us"] * chunks * 1e-6, 5), "programs": plan["programs"],
            "bytes": plan["bytes"], "groups": len(groups), "crossover": plan["crossover"],
            "experts": sum(len(g["experts"]) for g in groups), "in_flight": plan["in_flight"],
            "host_limit": plan.get("host_limit"), "layers": len(plan["layers"]), "shared_rows": shared_rows(plan)}


def shared_rows(plan):
    """{part: of each layer that shares it the rows that the device takes}, of parts that host and device share by rows."""
    rows = [layer.get("rows", {}) for layer in plan["layers"]]
    return {part: [of[part] for of in rows if part in of] for part in ("qkv", "o") if any(part in of for of in rows)}
