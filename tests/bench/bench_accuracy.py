#!/usr/bin/env python3
"""What every calibrator and the main switches cost in accuracy, network by network.

    bench_accuracy.py [--quantd build/quantd] [--work build/accuracy] [--output FILE] [--save FILE]
                      [--threads 2] [--quick] [--recipe NAME ...] [NAME ...]
    bench_accuracy.py --show tests/bench/accuracy.json

Networks, samples and split are those of the interoperability check (tests/interop/networks.py), and
so is what runs the artifact: ONNX Runtime, beside the f32 network there. One calibration a network
leaves statistics that most recipes are derived from; recipes that need other samples, and the
default, are run from the data. That both ways give the same bytes is checked.

--output is rewritten after every row; --save is written at the end, and only by a run of all rows.
The exit status is 1 when the default recipe misses a floor, or when either half of its samples
changes it by more than HALF_MOST_DB: both are taken as measured, luck is no excuse.

Agreement counts flipped samples, which at 400 of them is known within a point. `expected` says how
much of a miss may be luck (the gate does not look at it): with m the distance of the f32 network's two best logits and s the
deviation of that distance's error over all samples, the mean of the normal distribution at m / s.
"""
import argparse
import datetime
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/interop")
import check_interop as interop  # noqa: E402
import networks  # noqa: E402

NETWORKS = ["fashion_mnist", "resnet8_cifar10", "resnet20_cifar10", "squeezenet10_dc_imagenet",
            "mobilenetv1_025_vww", "ultraface_rfb320", "efficientnet_lite0"]
TAIL_LENGTH = 4096  # values an end: a hundred-thousandth of 400 million
HALF_MOST_DB = 1.0  # what half of the calibration samples may change
# Of the default recipe in a full run: SQNR in dB, top-1 agreement in %.
FLOORS = {"resnet8_cifar10": (27.5, 98.0), "resnet20_cifar10": (29.5, 98.4),
          "squeezenet10_dc_imagenet": (27.5, 93.0), "mobilenetv1_025_vww": (32.5, 99.0),
          "ultraface_rfb320": (46.0, None), "efficientnet_lite0": (23.8, 98.25)}


@dataclass
class Recipe:
    name: str
    config: dict
    source: str = "statistics"  # or "data": quantized from calibration samples
    first: int = 0              # of the calibration samples: this one
    step: int = 1               # and every step-th after it
    validation: bool = False    # given, so that nothing is held back
    group: str = "switch"       # or "calibrator": the row of which table


def calibrator(name, label=None, source="statistics", **more):
    return Recipe(label or name, {"calibration": {"calibrator": name, **more}}, source,
                  group="calibrator")


def percentile(p):
    return calibrator("percentile", f"percentile {p}", min_percentile=p, max_percentile=p)


DEFAULT = Recipe("mse", {}, "data", group="calibrator")
RECIPES = [
    DEFAULT, calibrator("minmax"), percentile(0.99999), percentile(0.999999),
    calibrator("entropy"), calibrator("kl"), calibrator("symmetric_kl"), calibrator("js"),
    calibrator("kl", "kl, spread", divergence="spread"),
    calibrator("js", "js, spread", divergence="spread"),
    calibrator("auto", source="data"),
    Recipe("inference quantized", {"calibration": {"inference": "quantized"}}, "data"),
    Recipe("no bias correction", {"weights": {"bias_correction": False}}),
    Recipe("weights full range", {"weights": {"range": "full"}}),
    Recipe("weights per tensor", {"weights": {"per_channel": False}}),
    Recipe("activations symmetric", {"activations": {"scheme": "symmetric"}}),
    Recipe("every second sample", {}, "data", step=2),
    Recipe("the other half", {}, "data", first=1, step=2),
    Recipe("all samples", {}, "data", validation=True),
]
HALVES = ("every second sample", "the other half")


class Bench:
    """One network: its samples on disk, its f32 outputs, what was evaluated already."""

    def __init__(self, name, arguments):
        self.name, self.arguments = name, arguments
        self.folder = f"{arguments.work}/{name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        most = interop.QUICK_SAMPLES if arguments.quick else None
        self.network = networks.load(ROOT, name, most)
        self.f32 = self.run_ort(self.network.model)
        self.results = {}  # by the artifact's hash
        # Serves only to have nothing held back: what is chosen does not depend on it.
        np.save(f"{self.folder}/validation.npy", self.network.evaluation[:8])

    def run_ort(self, path):
        """The first output of all evaluation samples."""
        out = interop.run_ort(path, self.network.evaluation, self.network.batch,
                              self.arguments.threads)
        return next(iter(out.values()))

    def quantize(self, recipe, statistics=None):
        """Folder of the results, seconds of the wall clock and of the CPU."""
        base = f"{self.folder}/{recipe.name.replace(', ', '-').replace(' ', '_')}"
        with open(f"{base}.json", "w") as f:
            json.dump(recipe.config, f)
        command = [self.arguments.quantd, "quantize", self.network.model, "--config",
                   f"{base}.json", "--threads", str(self.arguments.threads), "--output", base]
        if statistics:
            command += ["--statistics", statistics]
        else:
            np.save(f"{self.folder}/calibration.npy",
                    self.network.calibration[recipe.first::recipe.step])
            command += ["--calibration", f"{self.folder}/calibration.npy"]
        if recipe.validation:
            command += ["--validation", f"{self.folder}/validation.npy"]
        wall, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        interop.run_quantd(command)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (base, time.monotonic() - wall,
                used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime)

    def evaluate(self, artifact):
        """SQNR, top-1 agreement and accuracies in per cent, of the artifact in ONNX Runtime."""
        digest = sha256(artifact)
        if digest not in self.results:
            out = self.run_ort(artifact)
            r = {"sqnr_db": round(float(interop.sqnr_db(self.f32, out)), 3), "agreement": None,
                 "expected": None, "accuracy_f32": None, "accuracy_int8": None}
            if out.ndim == 2:
                a, b, labels = self.f32.argmax(1), out.argmax(1), self.network.labels
                r["agreement"] = per_cent(a == b)
                r["expected"] = expected_agreement(self.f32, out)
                if labels is not None:
                    r["accuracy_f32"], r["accuracy_int8"] = per_cent(a == labels), \
                        per_cent(b == labels)
            self.results[digest] = r
        return self.results[digest]


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def per_cent(flags):
    return round(100 * float(np.mean(flags)), 3)


def expected_agreement(f32, int8):
    """See above, in per cent. Probabilities (rows that sum to 1) are taken as logits."""
    logits = [x.astype(np.float64) for x in (f32, int8)]
    if np.allclose(f32.sum(axis=1), 1, atol=1e-3) and f32.min() >= 0:
        logits = [np.log(np.maximum(x, 1e-30)) for x in logits]
    best = np.argsort(logits[0], axis=1)[:, -2:]
    first, second = (np.take_along_axis(x, best, axis=1) for x in logits)
    margin = first[:, 1] - first[:, 0]
    error = (second[:, 1] - second[:, 0] - margin).std()
    if error == 0:
        return 100.0
    return per_cent([0.5 + 0.5 * math.erf(m / error / math.sqrt(2)) for m in margin])


def make_statistics(bench):
    """Statistics that serve every percentile, and the default derived from them; the artifact that
    calibration itself gave has to come out."""
    tails = Recipe("tails", {"calibration": {"tail_length": TAIL_LENGTH}}, "data")
    calibrated, _, _ = bench.quantize(tails)
    statistics = f"{calibrated}/statistics.qds"
    derived, _, cpu = bench.quantize(Recipe("derived", {}), statistics)
    if sha256(f"{calibrated}/model.qdq.onnx") != sha256(f"{derived}/model.qdq.onnx"):
        raise interop.Failure("statistics give another artifact than the calibration they are of")
    print(f"  the default from statistics: the same bytes, {cpu:.2f} s of CPU", flush=True)
    return statistics


def measure(bench, recipe, statistics):
    folder, wall, cpu = bench.quantize(recipe, statistics if recipe.source != "data" else None)
    with open(f"{folder}/report.json") as f:
        report = json.load(f)
    row = {"network": bench.name, "recipe": recipe.name,
           **bench.evaluate(f"{folder}/model.qdq.onnx"), "seconds": round(wall, 2),
           "cpu_seconds": round(cpu, 2), "from": recipe.source,
           "n_calibration": report["n_calibration"]}
    chosen = [c["configuration"] for c in report.get("choices", []) if c["chosen"]]
    if chosen:
        row["chosen"] = chosen[0]
    return row


# ---- the file --------------------------------------------------------------------------------

def command_output(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, cwd=ROOT)
    return done.stdout.strip()


def conditions(arguments):
    commit = command_output(["git", "rev-parse", "--short", "HEAD"]) or "unknown"
    # Files of measurements and words do not change what is measured.
    changed = command_output(["git", "status", "--porcelain", "--untracked-files=no", "--",
                              "quantcore", "worker", "daemon", "tests/interop"])
    with open("/proc/cpuinfo") as f:
        info = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines()
                    if ":" in line)
    info = {k.strip(): v.strip() for k, v in info.items()}
    cpu = f"{info.get('model name', 'unknown')}, family {info.get('cpu family', '?')}, " \
          f"{os.cpu_count()} cores"
    return {"commit": commit + ("-dirty" if changed else ""), "cpu": cpu,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "onnxruntime": ort.__version__, "threads": arguments.threads,
            "quick": arguments.quick}


def write(path, head, rows):
    """A row a line, so that a difference of two measurements can be read."""
    text = json.dumps(head, indent=1)[:-2] + ",\n \"rows\": [\n"
    text += ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]\n}\n"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


# ---- tables ----------------------------------------------------------------------------------

def cell(rows, network, recipe, field):
    found = [r[field] for r in rows if r["network"] == network and r["recipe"] == recipe]
    return found[0] if found else None


def print_sqnr(rows, group):
    """Recipes down, networks across, SQNR in dB; the best calibrator of each network in bold."""
    names = [n for n in NETWORKS if any(r["network"] == n for r in rows)]
    recipes = [r.name for r in RECIPES if r.group == group or r is DEFAULT]
    recipes = [n for n in recipes if any(r["recipe"] == n for r in rows)]
    print("\n| recipe | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for recipe in recipes:
        line = []
        for n in names:
            column = [x for x in (cell(rows, n, r, "sqnr_db") for r in recipes) if x is not None]
            x = cell(rows, n, recipe, "sqnr_db")
            text = "" if x is None else f"{x:.2f}"
            best = group == "calibrator" and x is not None and x == max(column)
            line.append(f"**{text}**" if best else text)
        print(f"| {recipe} | " + " | ".join(line) + " |")


def print_classes(rows):
    """Agreement and accuracy of every recipe of each classifier."""
    fields = ["sqnr_db", "agreement", "expected", "accuracy_f32", "accuracy_int8", "seconds",
              "cpu_seconds"]
    print("\n| network | recipe | SQNR dB | agreement % | expected | accuracy f32 | INT8 | "
          "seconds | of CPU | samples |\n" + "|---" * 10 + "|")
    for r in rows:
        numbers = ["" if r[f] is None else f"{r[f]:.2f}" for f in fields]
        print(f"| {r['network']} | {r['recipe']} | {' | '.join(numbers)} | "
              f"{r['n_calibration']} |")


def print_tables(rows):
    print_classes(rows)
    print_sqnr(rows, "calibrator")
    print_sqnr(rows, "switch")


def floors(rows):
    """What the default recipe misses, as sentences."""
    bad = []
    for r in rows:
        sqnr, agreement = FLOORS.get(r["network"], (None, None))
        if r["recipe"] != DEFAULT.name:
            continue
        if sqnr is not None and r["sqnr_db"] < sqnr:
            bad.append(f"{r['network']}: {r['sqnr_db']:.2f} dB, at least {sqnr} wanted")
        if agreement is not None and r["agreement"] < agreement:
            bad.append(f"{r['network']}: agreement {r['agreement']:.2f} %, at least {agreement} "
                       f"wanted (expected {r['expected']:.2f} %)")
    return bad


def halves(rows):
    """Where a half of the samples is too far from all of them, as sentences."""
    bad = []
    for name in NETWORKS:
        whole = cell(rows, name, DEFAULT.name, "sqnr_db")
        for recipe in HALVES:
            half = cell(rows, name, recipe, "sqnr_db")
            if whole is not None and half is not None and abs(half - whole) > HALF_MOST_DB:
                bad.append(f"{name}: {recipe} changes {half - whole:+.2f} dB, at most "
                           f"{HALF_MOST_DB} wanted")
    return bad


# ---- the run ---------------------------------------------------------------------------------

def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--quantd", default=f"{ROOT}/build/quantd")
    p.add_argument("--work", default=f"{ROOT}/build/accuracy")
    p.add_argument("--output", default=f"{ROOT}/build/bench_accuracy.json")
    p.add_argument("--save", help="where a complete run's file goes")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="100 samples each")
    p.add_argument("--recipe", action="append", help="these alone")
    p.add_argument("--show", help="print the tables of a file, measure nothing")
    p.add_argument("names", nargs="*", help="networks (all)")
    arguments = p.parse_args()
    for given, known in ((arguments.names, NETWORKS),
                         (arguments.recipe or [], [r.name for r in RECIPES])):
        unknown = set(given) - set(known)
        if unknown:
            p.error(f"unknown: {sorted(unknown)}; known: {known}")
    return arguments


def run_network(name, recipes, arguments, rows, save):
    """Rows of one network; failures as sentences."""
    failures = []
    bench = Bench(name, arguments)
    statistics = make_statistics(bench)
    for recipe in recipes:
        try:
            rows.append(measure(bench, recipe, statistics))
        except interop.Failure as e:
            failures.append(f"{name}, {recipe.name}: {e}")
            print(f"  FAILED {failures[-1]}", flush=True)
            continue
        save()
        r = rows[-1]
        print(f"  {recipe.name:24} {r['sqnr_db']:7.2f} dB  {r['agreement'] or '-':>7}  "
              f"{r['seconds']:6.2f} s, CPU {r['cpu_seconds']:.2f} s", flush=True)
    return failures


def main():
    arguments = parse()
    if arguments.show:
        with open(arguments.show) as f:
            print_tables(json.load(f)["rows"])
        return 0
    head, rows, failures, absent = conditions(arguments), [], [], []
    recipes = [r for r in RECIPES if not arguments.recipe or r.name in arguments.recipe]
    for name in arguments.names or NETWORKS:
        if not networks.present(ROOT, name):
            print(f"{name}: not measured, {networks.model_path(ROOT, name)} is absent")
            absent.append(name)
            continue
        print(f"{name}:", flush=True)
        try:
            failures += run_network(name, recipes, arguments, rows,
                                    lambda: write(arguments.output, head, rows))
        except (interop.Failure, OSError) as e:  # must not hide the other networks' results
            failures.append(f"{name}: {e}")
            print(f"  FAILED {failures[-1]}", flush=True)
    print_tables(rows)
    # A missed floor is a figure like others; a recipe without figures leaves the file incomplete.
    complete = not (arguments.quick or arguments.recipe or arguments.names or absent or failures)
    if not arguments.quick:  # floors are of the whole split
        failures += floors(rows) + halves(rows)
    for f in failures:
        print(f"FAILED {f}")
    if arguments.save and complete:
        write(arguments.save, head, rows)
        print(f"saved {arguments.save}")
    elif arguments.save:
        print(f"{arguments.save} stays as it is: this was not a complete run")
    return 1 if failures or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
