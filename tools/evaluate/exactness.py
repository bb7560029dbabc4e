"""Series 1: does a plan compute what the model computes, and what do policies that drop rows cost?

`npumoe verify` compares. Its base is the CPU path with the host's kernels; the plan's rows on the device are of the
device's arithmetic, and nothing else may differ. Two measures of accuracy stand beside KL divergence and perplexity
for policies that lose rows: how often the likeliest token is the one that follows, over all tokens of stories that the
model has not read, and the same for the last word of a sentence (where it is one token), a cloze task that needs
more of the context.
"""
import array
import json
import struct

POLICIES = {  # name: (options of plan, loses rows)
    "ours, spill": ([], False),
    "ours, two in flight": (["--in-flight", 2], False),
    "ours, one in flight": (["--in-flight", 1], False),  # then QKV and O are shared by rows; `shared_rows` says so
    "ours, repass": (["--overflow", "repass"], False),
    "ours, all experts": (["--all-experts"], False),  # the quickest plan of so small a model may have none on the device
    "ladder, repass": (["--policy", "ladder"], False),
    "naive": (["--policy", "naive"], False),
    "paper, prune": (["--policy", "paper"], True),
    "paper, reroute": (["--policy", "paper", "--overflow", "reroute"], True),
    "ours, prune": (["--overflow", "prune"], True),
    "ours, reroute": (["--overflow", "reroute"], True),
}
IN_QUICK = ("ours, spill", "ours, one in flight", "paper, prune")
WITH_ANSWERS = ("ours, spill", "ours, repass")
CHUNK, WINDOW = 512, 2048


def device_options(material, lossy):
    options = [*material.host()]
    options += ["--npu-from", 2]  # plans that expect to be slower than the CPU, too
    options += ["--no-replan"] if material.work.has("verify", "--no-replan") else []
    return options + (["--lossy"] if lossy else [])


def verify(material, model, text, plan, lossy, answers, chunks, extra=(), window=WINDOW):
    args = ["verify", "-m", material.model(model), "-f", text, "-c", window, "--chunks", chunks, "--plan", plan, "--json",
            *device_options(material, lossy), *extra]
    if answers:
        args += ["--greedy", answers[1], "--prompts", answers[0], "--prompt-tokens", 512]
    result = json.loads(material.work.run(*args)["out"])
    for key in ("model", "text", "schema", "version"):
        result.pop(key, None)
    return result


# ---- accuracy --------------------------------------------------------------------------------

def read_npy(path):
    """Rows of float32, as `npumoe logits` writes them."""
    with open(path, "rb") as file:
        magic = file.read(10)
        header = file.read(struct.unpack("<H", magic[8:10])[0]).decode()
        rows, columns = eval(header)["shape"]  # pylint: disable=eval-used
        for _ in range(rows):
            row = array.array("f")
            row.fromfile(file, columns)
            yield row


def likeliest(path):
    return [row.index(max(row)) for row in read_npy(path)]


def sentence_ends(work, model, text):
    """Positions of tokens that are a whole word and the last one of a sentence."""
    pieces = json_pieces(work, model, text)
    return [i for i in range(1, len(pieces) - 1) if pieces[i][:1] == " " and pieces[i][1:].isalpha() and
            pieces[i + 1][:1] in (".", "!", "?")]


def json_pieces(work, model, text):
    """The text of every token: a line is `id -> 'text'`."""
    out = work.run("tokenize", "-m", model, "-f", text)["out"]
    pieces = []
    for line in out.splitlines():
        head, arrow, rest = line.partition(" -> ")
        if arrow and head.strip().isdigit():
            pieces.append(rest[1:-1])
    return pieces


def accuracy(material, model, text, plan, lossy):
    """Shares of right first choices: of all tokens, of sentences' last words."""
    work = material.work
    path = work.path("logits.npy")
    ids = json.loads(work.run("tokenize", "-m", material.model(model), "-f", text, "--ids")["out"])
    way = ["--plan", plan, *device_options(material, lossy)] if plan else material.host()
    work.run("logits", "-m", material.model(model), "-f", text, "--all", "-o", path, *way)
    guess = likeliest(path)
    path.unlink()
    right = [guess[i - 1] == ids[i] for i in range(1, len(ids))]
    ends = [i for i in sentence_ends(work, material.model(model), text) if i < len(ids)]
    return {"tokens": len(right), "top1": sum(right) / len(right), "cloze_words": len(ends),
            "cloze": sum(right[i - 1] for i in ends) / max(1, len(ends))}


# ---- the series ------------------------------------------------------------------------------

def evaluate(material, quick, book=None):
    work = material.work
    model, chunk, window = "demo", 128 if quick else CHUNK, 512 if quick else WINDOW
    profile, cost = material.profile(model), material.cost(model, chunk)
    texts = {"tales": material.text("new-tales")} | ({book.name: book} if book else {})
    short = material.prompt(model, "new-tales", 256 if quick else WINDOW)
    known = work.has("logits", "--plan")
    rows = []
    for name, (options, lossy) in POLICIES.items():
        slug = name.replace(", ", "-").replace(" ", "-")
        if quick and name not in IN_QUICK:
            continue

        def make(name=name, options=options, lossy=lossy, slug=slug):
            plan, kept = material.plan(f"demo.{slug}", profile, cost, chunk, 256 if quick else WINDOW, options)
            row = {"policy": name, "lossy": lossy, "plan": kept, "texts": {}}
            if kept["programs"] == 0:
                return row  # it leaves everything to the CPU
            for title, text in texts.items():
                answers = (20, 200) if name in WITH_ANSWERS and title == "tales" and not quick else None
                row["texts"][title] = verify(material, model, text, plan, lossy, answers, 1 if quick else 8, (), window)
            if known:
                row["accuracy"] = accuracy(material, model, short, plan, lossy)
            return row
        rows.append(work.step(f"exact-{slug}", make))
    base = work.step("exact-cpu", lambda: accuracy(material, model, short, None, False))
    return {"chunk": chunk, "window": window, "cpu_accuracy": base, "rows": rows}
