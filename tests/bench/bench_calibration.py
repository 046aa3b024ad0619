"""Calibration by the real program beside ONNX Runtime's quantize_static, in processes of their own
that take turns. Wall clock: both use all cores, and ONNX Runtime's histograms are numpy on one of
them. A shared machine disturbs these figures; each is the shortest of some runs."""
import json
import os
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
# Samples: the difference has no start, no weights and no export in it. ONNX Runtime keeps every
# sample's activations, hundreds of which do not fit into memory.
FEW, MANY = {"ours": 20, "theirs": 10}, {"ours": 200, "theirs": 40}
ROUNDS = 5
DEADLINE = 1800
MEMORY_SAMPLES = 1000
# Calibrator, whether histograms are counted, phases. ONNX Runtime's MinMax keeps ranges alone too.
PASSES = {"one pass": ("minmax", False, ("pass1",)),
          "two passes": ("mse", True, ("pass1", "pass2", "searching"))}


class Calibration:
    def __init__(self, quantd, peak_memory, work):
        self.quantd, self.peak_memory, self.work = quantd, peak_memory, work

    def quantize(self, model, data, config, threads=2):
        """Report, seconds of wall clock, MB resident at most."""
        with open(f"{self.work}/job.json", "w") as f:
            json.dump(config, f)
        command = [self.peak_memory, f"{self.work}/memory", self.quantd, "quantize", model,
                   "--calibration", data, "--threads", str(threads), "--config",
                   f"{self.work}/job.json", "--output", f"{self.work}/artifact"]
        subprocess.run(["rm", "-rf", f"{self.work}/artifact"], check=True)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(f"quantd quantize {model}: {done.stderr.strip()[-300:]}")
        with open(f"{self.work}/artifact/report.json") as f, \
                open(f"{self.work}/memory") as g:
            return json.load(f), seconds, int(g.read()) / 1024

    def phases(self, model, data, samples, kind, threads):
        calibrator, histograms, phases = PASSES[kind]
        config = {"calibration": {"calibrator": calibrator, "histograms": histograms,
                                  "holdout": 0.001, "max_samples": samples + 1},
                  "verification": {"max_samples": 1}}
        report = self.quantize(model, data, config, threads)[0]
        if report["n_calibration"] != samples:
            raise RuntimeError(f"{report['n_calibration']} samples calibrate, not {samples}")
        return sum(report["phase_seconds"][p] for p in phases)

    def peer(self, model, data, samples, method):
        done = subprocess.run([sys.executable, "-B", f"{HERE}/bench_peer.py", model, data,
                               str(samples), method, f"{self.work}/peer.onnx"],
                              capture_output=True, text=True, timeout=DEADLINE)
        if done.returncode != 0:
            raise RuntimeError(f"quantize_static {model}: {done.stderr.strip()[-300:]}")
        return float(done.stdout.split()[-1])

    def prepared(self, model):
        """What ONNX Runtime's own guide does before quantize_static."""
        from onnxruntime.quantization.shape_inference import quant_pre_process
        path = f"{self.work}/prepared-{os.path.basename(os.path.dirname(model))}" \
               f"-{os.path.basename(model)}"
        quant_pre_process(model, path, skip_symbolic_shape=True)
        return path


def shortest(tasks, rounds=ROUNDS):
    """{name: task that returns seconds} → {name: shortest}, taking turns."""
    best = {name: float("inf") for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            best[name] = min(best[name], task())
    return best


def per_sample(best, name, side):
    few, many = FEW[side], MANY[side]
    return 1e3 * (best[name, many] - best[name, few]) / (many - few)


def both_counts(side, name, task):
    """{(name, samples): task of so many samples}, for per_sample."""
    return {(name, n): lambda n=n: task(n) for n in (FEW[side], MANY[side])}


def random_samples(path, count, dtype=np.float32):
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", dtype, (count, 3, 224, 224))
    for i in range(count):
        out[i] = rng.standard_normal((3, 224, 224), np.float32) if dtype == np.float32 \
            else rng.integers(0, 256, (3, 224, 224), np.uint8)
    out.flush()
    return path


def speed_rows(c, rows, name, model, targets):
    """Per further sample: each of our calibrations beside each of theirs."""
    data = random_samples(f"{c.work}/samples.npy", MANY["ours"] + 1)
    prepared = c.prepared(model)
    tasks = both_counts("theirs", "MinMax", lambda n: c.peer(prepared, data, n, "MinMax"))
    for kind in PASSES:
        tasks |= both_counts("ours", kind,
                             lambda n, kind=kind: c.phases(model, data, n, kind, 2))
    best = shortest(tasks)
    # Minutes a run: fewer of them, in the same way.
    best.update(shortest(both_counts("theirs", "Percentile",
                                     lambda n: c.peer(prepared, data, n, "Percentile")), 1))
    for kind, method in ("one pass", "MinMax"), ("two passes", "Percentile"), \
            ("two passes", "MinMax"):
        rows.add(f"calibration {name}, {kind} vs {method}, 2 threads", "ms/sample",
                 per_sample(best, kind, "ours"), per_sample(best, method, "theirs"),
                 targets.get((kind, method)))


def thread_row(c, rows, name, model):
    """Two samples at once on two cores: what a second thread brings to both passes."""
    data = f"{c.work}/samples.npy"
    tasks = {}
    for threads in 1, 2:
        tasks |= both_counts("ours", threads, lambda n, threads=threads:
                             c.phases(model, data, n, "two passes", threads))
    best = shortest(tasks)
    rows.add(f"calibration {name}, two samples at once vs one", "ms/sample",
             per_sample(best, 2, "ours"), per_sample(best, 1, "ours"), 1.9)


def memory_row(c, rows, name, model, samples=MEMORY_SAMPLES):
    sizes = []
    for n in 100, samples:
        data = random_samples(f"{c.work}/bytes.npy", n, np.uint8)
        sizes.append(c.quantize(model, data, {"preprocess": {"scale": 1 / 255}})[2])
        os.remove(data)
    rows.add(f"memory of calibration {name}, {samples} samples vs 100", "MB", sizes[1], sizes[0],
             0.95)


def whole_rows(c, rows, name, model, samples):
    """The whole program, process start included; and whether its report tells the time."""
    data = f"{c.work}/whole.npy"
    np.save(data, samples)
    shares, prepared = [], c.prepared(model)

    def ours():
        report, seconds, _ = c.quantize(model, data, {})
        shares.append((sum(report["phase_seconds"].values()), seconds))
        return seconds
    best = shortest({"ours": ours,
                     "theirs": lambda: c.peer(prepared, data, len(samples), "MinMax")})
    rows.add(f"quantize {name}, {len(samples)} samples vs MinMax", "s", best["ours"],
             best["theirs"], 1.0)
    phases, wall = max(shares, key=lambda s: s[0] / s[1])
    rows.add(f"quantize {name}: phases of the report beside the wall clock", "s", wall, phases,
             0.95)
