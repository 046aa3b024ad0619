#!/usr/bin/env python3
"""Compare quantd's speed with ONNX Runtime's and OpenVINO's on this machine.

    bench.py --build build [--output bench.json] [--only f32,int8,conv,calibration,memory,whole]
             [--long] [NAME ...]

Prints a line a row and writes {cpu, flags, commit, load, rows}: of each row `ratio` is how many
times better quantd is than what it is compared with, `at_least` what it should be. Rows below are
named at the end; they do not fail the run, unless --strict. NAME: networks of tests/interop/networks.py
and resnet18, mobilenetv2 (all). --long: memory with 10,000 samples, not 1,000.
"""
import argparse
import json
import os
import subprocess
import sys

import onnx

import bench_calibration as calibration
import bench_engines as engines
import make_networks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/interop")
import networks  # noqa: E402

SECTIONS = ("f32", "int8", "conv", "calibration", "memory", "whole")
CHAINS = ((64, 56), (128, 28), (256, 14), (512, 7))
CHAIN_SHORT, CHAIN_LONG = 2, 10
CALIBRATION_SAMPLES = 20
# GOP/s a GHz of vpdpbusd on registers: with two 512-bit units 256, with one 128. There the others
# lose less by what they do beside multiplying.
FAST_VNNI = 192
# Without VNNI: exact s16, where the others' bytes saturate. Then "avx2" below is what is wanted of INT8.
VNNI = {"avx512_vnni", "avx_vnni"}
TARGETS = {
    "f32": {"resnet18": 1.0, "mobilenetv2": 1.05},
    "int8": {"resnet18": (1.25, 1.15), "mobilenetv2": (1.6, 1.4)},
    "openvino": {"resnet18": 1.05, "mobilenetv2": 1.4},
    "own f32": {"resnet18": 3.8},
    "avx2": {"resnet18": 1.6, "mobilenetv2": 1.6},
    "calibration": {
        "resnet18": {("one pass", "MinMax"): 1.9, ("two passes", "Percentile"): 3.7},
        "mobilenetv2": {("one pass", "MinMax"): 8, ("two passes", "Percentile"): 40,
                        ("two passes", "MinMax"): 3.5}},
}
F32_OTHERS, INT8_OTHERS, CONV_SHARE = 1.0, (1.2, 1.1), 0.90


class Rows:
    def __init__(self):
        self.rows = []

    def add(self, name, unit, ours, theirs, at_least=None, less_is_better=True):
        ratio = theirs / ours if less_is_better else ours / theirs
        self.rows.append({"name": name, "unit": unit, "ours": round(ours, 4),
                          "theirs": round(theirs, 4), "ratio": round(ratio, 3),
                          "at_least": at_least})
        print(self.line(self.rows[-1]), flush=True)

    @staticmethod
    def line(r):
        want = "" if r["at_least"] is None else \
            f"at least {r['at_least']:g}" + ("" if r["ratio"] >= r["at_least"] else "  BELOW")
        return f"{r['name']:62s} {r['ours']:10.3f} {r['theirs']:10.3f} {r['unit']:10s}" \
               f" {r['ratio']:7.2f}  {want}"

    def below(self):
        return [r for r in self.rows if r["at_least"] is not None and r["ratio"] < r["at_least"]]


def generated(work):
    paths = {}
    for name in "resnet18", "mobilenetv2":
        os.makedirs(f"{work}/{name}", exist_ok=True)
        paths[name] = f"{work}/{name}/model.onnx"
        onnx.save(getattr(make_networks, name)(), paths[name])
    return paths


def collect(work, names):
    """{name: model} of what is there; each network absent is named."""
    found = {n: p for n, p in generated(work).items() if not names or n in names}
    for name in networks.TRAINED:
        if names and name not in names:
            continue
        if networks.present(ROOT, name):
            found[name] = networks.model_path(ROOT, name)
        else:
            print(f"{name}: not measured, {networks.model_path(ROOT, name)} is absent")
    return found


def artifact(quantd, work, name, model):
    """Our INT8 network of a model, from samples of its own kind."""
    folder = f"{work}/{name}"
    os.makedirs(folder, exist_ok=True)
    data = f"{folder}/calibration.npy"
    if name in networks.TRAINED:
        calibration.np.save(data, networks.load(ROOT, name, CALIBRATION_SAMPLES).calibration)
    else:
        calibration.random_samples(data, CALIBRATION_SAMPLES)
    subprocess.run(["rm", "-rf", f"{folder}/artifact"], check=True)
    done = subprocess.run([quantd, "quantize", model, "--calibration", data, "--threads", "2",
                           "--output", f"{folder}/artifact"], capture_output=True, text=True,
                          timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"quantd quantize {model}: {done.stderr.strip()[-300:]}")
    return f"{folder}/artifact/model.qdq.onnx"


def f32_row(rows, ours, name, model):
    own = name in TARGETS["f32"]
    group = {"ours": ours.engine("f32", model), "ort": engines.onnx_runtime(model)}
    if own and engines.openvino:
        group["openvino"] = engines.open_vino(model)
    ms = {k: v * 1e3 for k, v in engines.take_turns(group).items()}
    peer = min((k for k in ms if k != "ours"), key=ms.get)
    rows.add(f"f32 {name} vs {peer}", "ms", ms["ours"], ms[peer],
             TARGETS["f32"].get(name, F32_OTHERS))


def int8_rows(rows, ours, name, model, qdq, kind):
    wanted = TARGETS if kind is not None else {k: {} for k in TARGETS}
    others = INT8_OTHERS if kind is not None else (None,)
    own = name in TARGETS["int8"]
    group = {"ours": ours.engine("int8", qdq), "ort": engines.onnx_runtime(qdq)}
    if engines.openvino and own:
        group["openvino"] = engines.open_vino(qdq)
    if name not in networks.QUANTIZED:
        group.update({kind: ours.engine(kind, model) for kind in ("f32", "taps")})
    ms = {k: v * 1e3 for k, v in engines.take_turns(group).items()}
    rows.add(f"int8 {name} vs ort", "ms", ms["ours"], ms["ort"],
             wanted["int8"].get(name, others)[kind or 0])
    if "openvino" in ms:
        rows.add(f"int8 {name} vs openvino", "ms", ms["ours"], ms["openvino"],
                 wanted["openvino"].get(name))
    if "f32" in ms:
        rows.add(f"int8 {name} vs own f32", "ms", ms["ours"], ms["f32"])
        rows.add(f"int8 {name} vs own f32 tap by tap", "ms", ms["ours"], ms["taps"],
                 wanted["own f32"].get(name))


def avx2_row(rows, ours, name, model, qdq):
    """A CPU with AVX2 but without VNNI: bytes are multiplied as s16."""
    group = {"int8": ours.engine("int8", qdq, "avx2"), "f32": ours.engine("f32", model, "avx2"),
             "taps": ours.engine("taps", model, "avx2")}
    ms = {k: v * 1e3 for k, v in engines.take_turns(group).items()}
    rows.add(f"int8 {name} with AVX2 vs own f32 with AVX2", "ms", ms["int8"], ms["f32"])
    rows.add(f"int8 {name} with AVX2 vs own f32 with AVX2 tap by tap", "ms", ms["int8"], ms["taps"],
             TARGETS["avx2"][name])


def conv_rows(rows, ours, work, share):
    """What a further convolution of a chain costs, beside the peak of the same minute."""
    for channels, size in CHAINS:
        group = {}
        for length in CHAIN_SHORT, CHAIN_LONG:
            path = f"{work}/conv{channels}x{length}.onnx"
            onnx.save(make_networks.conv_chain(channels, size, length), path)
            group[length] = ours.engine("int8", path)
        peaks = [float(ours.ask("peak")[0])]
        best = engines.take_turns(group)
        peaks.append(float(ours.ask("peak")[0]))
        seconds = (best[CHAIN_LONG] - best[CHAIN_SHORT]) / (CHAIN_LONG - CHAIN_SHORT)
        ops = 2.0 * size * size * 9 * channels * channels
        rows.add(f"int8 3x3 convolution {channels} channels {size}x{size} vs peak", "GOP/s",
                 ops / seconds * 1e-9, max(peaks), share, less_is_better=False)


def speed(rows, a, found, work):
    """Everything on one thread; what is measured here runs on one core."""
    allowed = engines.pin()
    ours = engines.Ours(f"{a.build}/bench_network")
    gops, gflops, ghz = map(float, ours.ask("peak"))
    kind = int(gops / ghz < FAST_VNNI) if VNNI & set(cpu()[1]) else None
    print(f"peak {gops:.0f} GOP/s s8, {gflops:.0f} GFLOP/s f32 at {ghz:.2f} GHz")
    if "conv" in a.only:
        conv_rows(rows, ours, work, CONV_SHARE if kind is not None else None)
    for name, model in found.items():
        if "f32" in a.only and name not in networks.QUANTIZED:
            f32_row(rows, ours, name, model)
        if "int8" in a.only:
            os.sched_setaffinity(0, allowed)
            qdq = artifact(f"{a.build}/quantd", work, name, model)
            engines.pin()
            int8_rows(rows, ours, name, model, qdq, kind)
            if name in TARGETS["avx2"]:
                avx2_row(rows, ours, name, model, qdq)
    ours.close()
    os.sched_setaffinity(0, allowed)
    return {"s8_gops": gops, "f32_gflops": gflops, "ghz": ghz}


def whole_programs(rows, a, found, work):
    c = calibration.Calibration(f"{a.build}/quantd", f"{a.build}/peak_memory", work)
    for name, targets in TARGETS["calibration"].items():
        if name in found and "calibration" in a.only:
            calibration.speed_rows(c, rows, name, found[name], targets)
            calibration.thread_row(c, rows, name, found[name])
    if "memory" in a.only and "mobilenetv2" in found:
        calibration.memory_row(c, rows, "mobilenetv2", found["mobilenetv2"],
                               10000 if a.long else calibration.MEMORY_SAMPLES)
    if "whole" in a.only and "resnet20_cifar10" in found:
        samples = networks.load(ROOT, "resnet20_cifar10", 500).calibration
        calibration.whole_rows(c, rows, "resnet20_cifar10", found["resnet20_cifar10"], samples)


def cpu():
    """(model name, the flags that matter) from /proc/cpuinfo."""
    info = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    wanted = {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512dq",
              "avx512_vnni", "avx512_bf16", "amx_int8"}
    family = f"family {info.get('cpu family')} model {info.get('model')}"
    return f"{info.get('model name')} {family}", sorted(wanted & set(info["flags"].split()))


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=f"{ROOT}/build")
    p.add_argument("--output")
    p.add_argument("--only", default=",".join(SECTIONS))
    p.add_argument("--long", action="store_true")
    p.add_argument("--strict", action="store_true", help="exit with 1 when a row is below")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    a.only = a.only.split(",")
    known = {*networks.TRAINED, "resnet18", "mobilenetv2"}
    if set(a.only) - set(SECTIONS) or set(a.names) - known:
        p.error(f"sections are {SECTIONS}, networks {sorted(known)}")
    return a


def main():
    a = arguments()
    work = f"{a.build}/bench"
    os.makedirs(work, exist_ok=True)
    rows, found, load = Rows(), collect(work, a.names), [os.getloadavg()[0]]
    name, flags = cpu()
    print(f"{name}, {os.cpu_count()} cores, load {load[0]:.1f}, OpenVINO "
          f"{engines.openvino.__version__ if engines.openvino else 'is not there'}, "
          f"ONNX Runtime {engines.ort.__version__}")
    print(f"{'':62s} {'quantd':>10s} {'other':>10s} {'':10s} {'ratio':>7s}")
    peak = speed(rows, a, found, work) if {"f32", "int8", "conv"} & set(a.only) else {}
    whole_programs(rows, a, found, work)
    load.append(os.getloadavg()[0])
    output = a.output or f"{a.build}/bench.json"
    with open(output, "w") as f:
        json.dump({"cpu": name, "flags": flags, "commit": commit(), "load": load, "peak": peak,
                   "rows": rows.rows}, f, indent=1)
    below = rows.below()
    print(f"{len(rows.rows)} rows in {output}, {len(below)} below what they should be")
    for r in below:
        print("  " + Rows.line(r))
    return 1 if a.strict and below else 0


if __name__ == "__main__":
    sys.exit(main())
