#!/usr/bin/env python3
"""Which defaults the calibration samples themselves speak for: no evaluation data are read.

    bench_defaults.py [--quantd build/quantd] [--work build/defaults] [--threads 2] [--save FILE]
                      [NAME ...]

Each quarter of a network's calibration samples (every fourth, from the first, second …) is held back
in turn: the others calibrate, and quantd's own verification compares the artifact with the f32 network
on what was held back. A recipe's figure is its mean over the quarters of SQNR of the first output, and
beside it the standard error of its difference from the default recipe, quarter by quarter. A default
changes when another recipe is better by more than twice that error on most networks and worse by as
much on none; figures of the evaluation samples (bench_accuracy.py) are not for choosing.
"""
import argparse
import json
import os
import shutil
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [f"{ROOT}/tests/interop", f"{ROOT}/tests/bench"]
import bench_accuracy as accuracy  # noqa: E402
import check_interop as interop  # noqa: E402
import networks  # noqa: E402

QUARTERS = 4
# Those that need no other choice of samples, which here is the quarters'.
RECIPES = [r for r in accuracy.RECIPES if r.step == 1 and not r.validation and r.name != "auto"]


def calibration_samples(name):
    """The rest of the split is dropped before anything looks at it."""
    network = networks.load(ROOT, name, None)
    return network.model, network.calibration


def quantize(model, recipe, folder, source, arguments):
    """SQNR and top-1 agreement (None where there is no class) on the samples held back."""
    with open(f"{folder}/job.json", "w") as f:
        json.dump(recipe.config, f)
    output = f"{folder}/{recipe.name.replace(', ', '-').replace(' ', '_')}"
    shutil.rmtree(output, ignore_errors=True)
    interop.run_quantd([arguments.quantd, "quantize", model, "--config", f"{folder}/job.json",
                        "--threads", str(arguments.threads), "--output", output, *source,
                        "--validation", f"{folder}/held_back.npy"])
    with open(f"{output}/report.json") as f:
        first = json.load(f)["outputs"][0]
    return first["sqnr_db"], first["top1_agreement"], f"{output}/statistics.qds"


def judge(name, arguments):
    """A row a recipe: both figures of every quarter."""
    model, samples = calibration_samples(name)
    folder = f"{arguments.work}/{name}"
    os.makedirs(folder, exist_ok=True)
    rows = {r.name: {"network": name, "recipe": r.name, "sqnr_db": [], "agreement": []}
            for r in RECIPES}
    tails = accuracy.Recipe("tails", {"calibration": {"tail_length": accuracy.TAIL_LENGTH}})
    for quarter in range(QUARTERS):
        held_back = np.arange(len(samples)) % QUARTERS == quarter
        np.save(f"{folder}/held_back.npy", samples[held_back])
        np.save(f"{folder}/calibration.npy", samples[~held_back])
        data = ["--calibration", f"{folder}/calibration.npy"]
        *_, statistics = quantize(model, tails, folder, data, arguments)
        for recipe in RECIPES:
            needs_data = recipe.source == "data" and recipe is not accuracy.DEFAULT
            source = data if needs_data else ["--statistics", statistics]
            sqnr, agreement, _ = quantize(model, recipe, folder, source, arguments)
            rows[recipe.name]["sqnr_db"].append(round(sqnr, 3))
            rows[recipe.name]["agreement"].append(agreement)
    return list(rows.values())


def print_table(rows):
    """Recipes down, networks across: SQNR of the default, differences from it elsewhere."""
    names = list(dict.fromkeys(r["network"] for r in rows))
    sqnr = {(r["network"], r["recipe"]): np.array(r["sqnr_db"]) for r in rows}
    print("\n| recipe | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for recipe in RECIPES:
        cells = []
        for n in names:
            change = sqnr[n, recipe.name] - sqnr[n, accuracy.DEFAULT.name]
            error = change.std(ddof=1) / np.sqrt(QUARTERS)
            cells.append(f"{sqnr[n, recipe.name].mean():.2f}" if recipe is accuracy.DEFAULT
                         else f"{change.mean():+.2f} ± {error:.2f}")
        print(f"| {recipe.name} | " + " | ".join(cells) + " |")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--quantd", default=f"{ROOT}/build/quantd")
    p.add_argument("--work", default=f"{ROOT}/build/defaults")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--save", help="where the file of a run of all networks goes")
    p.add_argument("names", nargs="*", help="networks (all)")
    arguments = p.parse_args()
    arguments.quick = False
    names = arguments.names or accuracy.NETWORKS
    rows = []
    for name in names:
        if networks.present(ROOT, name):
            rows += judge(name, arguments)
            print(f"{name}: judged", flush=True)
        else:
            print(f"{name}: absent")
    print_table(rows)
    complete = len(rows) == len(accuracy.NETWORKS) * len(RECIPES)
    if arguments.save and complete:
        accuracy.write(arguments.save, accuracy.conditions(arguments), rows)
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
