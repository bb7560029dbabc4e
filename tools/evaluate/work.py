"""Running things: steps that are done once, commands that are measured alone.

A step is a named piece of work whose result, JSON, lies in WORKDIR/steps. A step that is there is not done again,
so an evaluation that was stopped goes on where it was; --redo forgets them. Commands whose time counts run in batches
through `--prefix CMD`, which may be anything that waits until the machine is quiet; a batch ends after
BATCH_SECONDS and the next one goes on, so that whoever waits too is not kept out for long.

What a command takes is the least of its runs. Beneath a virtual machine others may be at work, and a matrix unit may
be throttled for seconds: then the same command takes up to twice as long, with nothing to be seen from here. Such
noise only adds, so commands run in turn, round after round, each until its least time is confirmed by a second one.
"""
import json
import os
import pathlib
import re
import resource
import shlex
import subprocess
import sys
import time

BATCH_SECONDS = 45  # after which a batch begins no new command
COMMAND_SECONDS = 150
LONG_SECONDS = 10
CONFIRMED, LEAST_RUNS = 1.03, 3  # the second least time of the least; a slow phase may last for two rounds


class Failed(Exception):
    """A command that had to succeed did not."""


def run_one(command, seconds=None):
    """Output, exit code, wall and CPU seconds of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, out, err = "timeout", late.stdout or b"", late.stderr or b""
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"code": code, "wall": round(wall, 4), "cpu": round(cpu, 4), "out": out.decode(errors="replace"),
            "err": err.decode(errors="replace")}


def run_measured(command):
    """One command, with what it wrote to --stats-out."""
    stats = pathlib.Path(command[command.index("--stats-out") + 1]) if "--stats-out" in command else None
    if stats:
        stats.unlink(missing_ok=True)
    result = run_one(command, COMMAND_SECONDS)
    if stats and stats.exists():
        result["stats"] = json.loads(stats.read_text())
        del result["stats"]["layers"]
    return result


def run_batch(path):
    """The inside of a measured batch: runs jobs of a file until its time is over; one line of JSON for each."""
    jobs = json.loads(path.read_text())
    start = time.monotonic()
    with open(f"{path}.done", "w", encoding="utf-8") as results:
        for index, command in enumerate(jobs):
            if index > 0 and time.monotonic() - start > BATCH_SECONDS:
                return
            results.write(json.dumps(run_measured(command)) + "\n")
            results.flush()


class Work:
    """A folder, the programs, and how to run them."""

    def __init__(self, folder, options):
        self.folder = pathlib.Path(folder).resolve()
        self.root = pathlib.Path(__file__).resolve().parents[2]
        self.npumoe = pathlib.Path(options.npumoe).resolve()
        self.mkmodel = pathlib.Path(options.mkmodel).resolve()
        self.prefix = shlex.split(options.prefix or "")
        self.other = shlex.split(options.other or "")
        self.quick = options.quick
        self.machine = None  # what evaluate.py says of it
        self.helps = {}
        self.made = 0  # steps in this run
        (self.folder / "steps").mkdir(parents=True, exist_ok=True)
        for program in (self.npumoe, self.mkmodel):
            if not program.exists():
                raise Failed(f"{program} is missing; run make first")

    def forget(self, steps):
        """Steps whose names begin so; with none, all that is here but the models."""
        doomed = [p for name in steps for p in (self.folder / "steps").glob(f"{name}*")]
        if not steps:
            doomed = [p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".gguf"]
        for path in doomed:
            path.unlink()

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def path(self, name):
        return self.folder / name

    def is_done(self, name):
        return (self.folder / "steps" / f"{name}.json").exists()

    def step(self, name, make):
        """The result of make(), from the folder if it was made before."""
        path = self.folder / "steps" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        self.say(name)
        result = make()
        new = path.with_suffix(".new")
        new.write_text(json.dumps(result))
        os.replace(new, path)
        self.made += 1
        return result

    def has(self, verb, option):
        """Whether a verb of this build knows an option."""
        if verb not in self.helps:
            self.helps[verb] = run_one([str(self.npumoe), "help", verb])["out"]
        return re.search(rf"{re.escape(option)}(?![\w-])", self.helps[verb]) is not None

    def command(self, *args):
        return [str(self.npumoe), *[str(a) for a in args]]

    def run(self, *args):
        """A command of npumoe that has to succeed, not measured."""
        return self.call(self.command(*args))

    def call(self, command):
        result = run_one([*self.other, *command])
        if result["code"] != 0:
            raise Failed(f"{shlex.join(command)}: exit code {result['code']}\n{result['err'][-2000:]}")
        return result

    def try_out(self, *args):
        """A command of npumoe that may fail."""
        return run_one([*self.other, *self.command(*args)])

    def measure(self, name, commands, warm=()):
        """Results of the commands, run one after the other on a machine that does nothing else."""
        results = []
        path = self.folder / "steps" / f"{name}.batch"
        while len(results) < len(commands):
            for file in warm:
                read_through(file)
            path.write_text(json.dumps(commands[len(results):]))
            batch = [*self.prefix, sys.executable, str(self.root / "tools/evaluate/evaluate.py"), "--batch", str(path)]
            subprocess.run(batch, stdin=subprocess.DEVNULL, check=False)
            lines = pathlib.Path(f"{path}.done").read_text(encoding="utf-8").splitlines()
            if not lines:
                raise Failed(f"{name}: a measured batch came back with nothing: {shlex.join(batch)}")
            results += [json.loads(line) for line in lines]
        path.unlink()
        pathlib.Path(f"{path}.done").unlink()
        for command, result in zip(commands, results):
            if result["code"] != 0:
                raise Failed(f"{shlex.join(command)}: exit code {result['code']}\n{result['err'][-2000:]}")
        return results

    def in_turn(self, name, commands, most, warm=(), least=LEAST_RUNS, twice=()):
        """{key: runs} of {key: command}, at least and at most so many rounds, quickest run first. Commands in `twice`
        are content with two runs that agree if they take longer than LONG_SECONDS."""
        runs = {key: [] for key in commands}
        for _ in range(1 if self.quick else most):
            due = []
            for key in commands:
                times = [r["prompt_s"] for r in runs[key]]
                is_long = key in twice and times and min(times) > LONG_SECONDS
                if not is_confirmed(times, 2 if is_long else least):
                    due.append(key)
            if not due:
                break
            for key, result in zip(due, self.measure(name, [commands[key] for key in due], warm)):
                runs[key].append(read_run(result))
        return {key: sorted(of_key, key=lambda r: r["prompt_s"]) for key, of_key in runs.items()}


def is_confirmed(times, least):
    """Whether two of the times say the same about the machine when nobody disturbs it."""
    times = sorted(times)
    return len(times) >= least and times[1] <= CONFIRMED * times[0]


def read_through(path):
    """Into the page cache, or the first run measures the disk."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def median(values):
    values = sorted(values)
    n = len(values)
    return None if n == 0 else 0.5 * (values[(n - 1) // 2] + values[n // 2])


# ---- what `npumoe run` says ------------------------------------------------------------------

PROMPT = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*(\d+) tokens")


def read_run(result):
    """Figures of one `npumoe run -n 0`, seconds."""
    prompt = PROMPT.search(result["err"])
    if not prompt:
        raise Failed(f"no timings in: {result['err'][-1000:]}")
    figures = {"prompt_s": round(float(prompt.group(1)) / 1000, 5), "tokens": int(prompt.group(2)),
               "process_s": result["wall"], "process_cpu_s": result["cpu"]}
    if "stats" in result:
        figures["plan"] = read_stats(result["stats"])
    return figures


def read_stats(report):
    """Of a plan's report what is kept: seconds, counts, shares in percent."""
    m = report["measured"]

    def share(part, whole):
        return round(100 * part / whole, 2) if whole else 0.0
    return {"arithmetic": report["device"]["arithmetic"], "weights": report["device"].get("weights"),
            "load": round(report["load_us"] * 1e-6, 3), "tokens": report["tokens"], "wall": round(report["wall_us"] * 1e-6, 5),
            "host_cpu": round(report["host_cpu_us"] * 1e-6, 5), "wait": round(m["wait_us"] * 1e-6, 5),
            "gather": round(m["gather_us"] * 1e-6, 5), "scatter": round(m["scatter_us"] * 1e-6, 5),
            "busy": round(m["device_us"] * 1e-6, 5), "occupied": round(m["occupied_us"] * 1e-6, 5),
            "launches": m["launches"], "parts": m["part_launches"], "device_share": share(m["device_rows"], m["pairs"]),
            "padding": share(m["computed_rows"] - m["device_rows"], m["computed_rows"]),
            "overflow": share(m["overflow"], m["pairs"]), "dropped": m["dropped"], "moved": m["rerouted"],
            "failures": m["failures"], "fallbacks": report["fallbacks"]}
