#!/usr/bin/env python3
"""Compare quantd's artifact in ONNX Runtime with quantd's own integer engine.

    check_interop.py [--quantd build/quantd] [--work build/interop] [--threads 2] [--full] [NAME ...]

Each network is quantized from calibration samples of its own kind. The artifact has to pass
onnx.checker with full_check, to load in ONNX Runtime (CPU), and to give there what
`quantd run --engine int8` gives. An output made by DequantizeLinear may differ by one step of its
scale. Any other f32 output (behind a last Gemm or Softmax) may differ by 1 % of its range, and
the share of elements within 1e-5 of the range is printed. How far both are from the f32 network
is printed too: that is information, not a condition.

A network that was quantized before has to come out as it went in: in ONNX Runtime artifact and model
may differ by one step, and every integer weight, scale and zero point of the model is in the
artifact to the byte. Its s8 activations keep ONNX Runtime from integer arithmetic in part, f32
decides ties otherwise, and a Softmax makes several steps of one: 98 % of quantd's elements have to
be within one step.

The modes `weight_only` and `dynamic` are checked on a few networks, without any data and with
calibration samples (which correct the biases): checker, ONNX Runtime beside `quantd run`, the file's size beside the f32 model's. ONNX Runtime
gets one sample at a time, because a dynamic range is that of the whole batch.

`weight_only` is checked with few bits, blocks and float16 likewise, calibrated.

Asymmetric weights are checked on a few networks too: every artifact has zero points that are not 0,
and how many of ONNX Runtime's nodes run on integers then is printed.

The calibration tables for other tools are checked too, see check_tables.py.

The networks beside the checkout (../shared/data) are optional; each one absent is named.
"""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

import check_tables
import networks

QUICK_SAMPLES = 100
FAR_LIMIT = 1e-2    # of the output's range, for outputs that are not on a grid
NEAR = 1e-5         # of the output's range, counted as equal
STEP = 1.0005       # integers times one scale: half a thousandth is what f32 rounding may add
COMMAND_SECONDS = 1800
ASYMMETRIC = {"fashion_mnist", "resnet20_cifar10", "mobilenetv1_025_vww"}
# Largest file of a mode without calibration, of the f32 model's. kws has 22,016 weights only: names
# and nodes are a fifth of its dynamic file.
MODES = ("weight_only", "dynamic")
MODE_SIZE = {"fashion_mnist": 0.30, "resnet20_cifar10": 0.30, "kws_dscnn": 0.30}
MODE_SIZE_DYNAMIC = {"kws_dscnn": 0.325}
# Differences allowed, of the output's range: f32 products are summed in another order; where that
# moves a value over the edge of a dynamic step, the whole step is the difference.
MODE_FAR = {"weight_only": 1e-5, "dynamic": FAR_LIMIT}
MODE_OPERATORS = {"weight_only": {"DequantizeLinear"},
                  "dynamic": {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}}
# Of `weight_only`: its weights, and the largest file, of the f32 model's.
INT4, FLOAT16 = onnx.TensorProto.INT4, onnx.TensorProto.FLOAT16
BITS = [({"bits": 4}, INT4, 0.20), ({"bits": 4, "scheme": "asymmetric"}, INT4, 0.21),
        ({"bits": 4, "block_size": 32}, INT4, 0.21), ({"bits": 3, "block_size": 128}, INT4, 0.20),
        ({"bits": 2}, INT4, 0.20), ({"bits": 1}, INT4, 0.20), ({"bits": 16}, FLOAT16, 0.53),
        ({"bits": 8, "block_size": 64}, onnx.TensorProto.INT8, 0.33)]
BITS_NETWORKS = set(MODE_SIZE) | {"decoder", "dense_layers", "transformer20"}
# Pass values through unchanged, so the grid of the DequantizeLinear before them still holds.
VIEWS = {"Flatten", "Reshape", "Identity", "Transpose", "Squeeze", "Unsqueeze"}


class Failure(Exception):
    """A condition of the check that does not hold; its text is the report."""


def run_quantd(arguments):
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(arguments[:2])}: no end after {COMMAND_SECONDS} s") from None
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-500:]
        raise Failure(f"{' '.join(arguments[:2])}: exit status {done.returncode}: {tail}")


def verify_sums(folder):
    """SHA256SUMS has to name the artifact and to fit the bytes."""
    named = set()
    with open(f"{folder}/SHA256SUMS") as f:
        for line in f:
            digest, name = line.split()
            with open(f"{folder}/{name.lstrip('*')}", "rb") as g:
                if hashlib.sha256(g.read()).hexdigest() != digest:
                    raise Failure(f"SHA256SUMS does not fit {name}")
            named.add(name.lstrip("*"))
    if "model.qdq.onnx" not in named:
        raise Failure("SHA256SUMS does not name model.qdq.onnx")


def output_quanta(model):
    """For each graph output: the scale of the DequantizeLinear that makes it, or None."""
    maker = {o: n for n in model.graph.node for o in n.output}
    value = {i.name: i for i in model.graph.initializer}
    quanta = {}
    for output in model.graph.output:
        node = maker.get(output.name)
        while node is not None and node.op_type in VIEWS:
            node = maker.get(node.input[0])
        quanta[output.name] = None
        if node is not None and node.op_type == "DequantizeLinear":
            scale = numpy_helper.to_array(value[node.input[1]])
            quanta[output.name] = float(scale.max())
    return quanta


def saturates():
    """A CPU with AVX2 but without VNNI: ONNX Runtime's products of u8 and s8 saturate there unless
    it is told otherwise."""
    with open("/proc/cpuinfo") as f:
        flags = next((line.split() for line in f if line.startswith("flags")), [])
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)


def session(path, threads, s8=False, exact=True):
    """`s8`: with integer arithmetic for s8 activations too, which x86 leaves to f32 by default.
    `exact`: without saturation on any CPU. (Not for weights that are only dequantized, which ONNX
    Runtime 1.32 would convert as well, and then refuse.) Products that ONNX Runtime fuses with the
    DequantizeLinear of their weights (MatMulNBits) are f32; its default rounds their inputs to 8
    bits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if exact and saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if s8:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_ort(path, x, batch, threads, s8=False, exact=True):
    """All outputs for all samples, by name, from one model file."""
    s = session(path, threads, s8, exact)
    names = [o.name for o in s.get_outputs()]
    feed = s.get_inputs()[0].name
    parts = [s.run(names, {feed: x[i:i + batch]}) for i in range(0, len(x), batch)]
    return {n: np.concatenate([p[k] for p in parts]) for k, n in enumerate(names)}


def compare(name, ours, theirs, quantum, limit=FAR_LIMIT):
    """One line about two arrays that should be the same; raises Failure when they are not."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise Failure(f"{name}: quantd gives {ours.dtype}{list(ours.shape)}, "
                      f"ONNX Runtime {theirs.dtype}{list(theirs.shape)}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise Failure(f"{name}: values that are not finite")
    difference = np.abs(ours.astype(np.float64) - theirs)
    equal = np.mean(ours == theirs)
    if quantum is not None:
        steps = difference.max() / quantum
        line = f"{name}: {equal:.4%} equal, largest difference {steps:.2f} steps of {quantum:.6g}"
        if steps > STEP:
            raise Failure(line)
        return line
    spread = float(theirs.max()) - float(theirs.min())
    if spread <= 0:
        raise Failure(f"{name}: constant output {theirs.flat[0]}: nothing is compared")
    far = difference.max() / spread
    near = np.mean(difference <= NEAR * spread)
    line = (f"{name}: {equal:.4%} equal, {near:.4%} within {NEAR:g} of the range, "
            f"largest difference {far:.3g} of the range")
    if far > limit:
        raise Failure(line + f" (limit {limit:g})")
    return line


def constants_kept(before, after):
    """How many integer and scale constants of `before` are in `after`, of how many."""
    def codes(model):
        used = {n for node in model.graph.node for n in node.input
                if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
        arrays = [numpy_helper.to_array(i) for i in model.graph.initializer if i.name in used]
        return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]
    there = set(codes(after))
    wanted = codes(before)
    return sum(c in there for c in wanted), len(wanted)


def sqnr_db(reference, other):
    noise = np.sum((reference.astype(np.float64) - other) ** 2)
    signal = np.sum(reference.astype(np.float64) ** 2)
    return float("inf") if noise == 0 else 10 * np.log10(signal / noise)


def against_f32(network, f32, int8):
    """A row of the table: SQNR of every output, top-1 agreement, accuracy f32 and int8."""
    row = [network.name, " ".join(f"{sqnr_db(f32[n], int8[n]):.2f}" for n in f32)]
    first = next(iter(f32))
    if f32[first].ndim != 2:
        return row + ["-", "-", "-"]
    a, b = f32[first].argmax(1), int8[first].argmax(1)
    row.append(f"{np.mean(a == b):.2%}")
    if network.labels is None:
        return row + ["-", "-"]
    return row + [f"{np.mean(a == network.labels):.2%}", f"{np.mean(b == network.labels):.2%}"]


def check_imported(network, artifact, ours, model, arguments):
    """ONNX Runtime by default: artifact and model the same bits; what its f32 Convs change."""
    theirs = run_ort(artifact, network.evaluation, network.batch, arguments.threads)
    for n in theirs:
        equal = np.mean(ours[n] == theirs[n])
        print(f"  {n}: {equal:.4%} equal where ONNX Runtime computes s8 Convs in f32")
    return [f"{n}: artifact and model differ in ONNX Runtime" for n in theirs
            if theirs[n].tobytes() != model[n].tobytes()]


def check(network, arguments):
    folder = f"{arguments.work}/{network.name}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    np.save(f"{folder}/calibration.npy", network.calibration)
    np.save(f"{folder}/input.npy", network.evaluation)
    run_quantd([arguments.quantd, "quantize", network.model, "--calibration",
                f"{folder}/calibration.npy", "--threads", str(arguments.threads),
                "--table-format", check_tables.FORMATS, "--output", f"{folder}/artifact"])
    artifact = f"{folder}/artifact/model.qdq.onnx"
    verify_sums(f"{folder}/artifact")
    model = onnx.load(artifact)
    onnx.checker.check_model(model, full_check=True)
    run_quantd([arguments.quantd, "run", artifact, "--input", f"{folder}/input.npy",
                "--output", f"{folder}/output.npz", "--engine", "int8"])
    quantized = network.name in networks.QUANTIZED
    theirs = run_ort(artifact, network.evaluation, network.batch, arguments.threads, quantized,
                     not quantized)
    with np.load(f"{folder}/output.npz") as f:
        ours = {n: f[n] for n in f.files}
    if set(ours) != set(theirs):
        raise Failure(f"outputs {sorted(ours)} here, {sorted(theirs)} in ONNX Runtime")
    f32 = run_ort(network.model, network.evaluation, network.batch, arguments.threads)
    row = against_f32(network, f32, ours)
    quanta, failures = output_quanta(model), []
    for n in theirs:
        try:
            print("  " + compare(n, ours[n], theirs[n], quanta[n]))
        except Failure as e:
            failures.append(str(e))
    if quantized:
        failures += check_imported(network, artifact, ours, f32, arguments)
        kept, wanted = constants_kept(onnx.load(network.model), model)
        print(f"  {kept} of {wanted} constants of the model are in the artifact")
        if kept != wanted:
            failures.append(f"{wanted - kept} constants of the model are not in the artifact")
    n, bad = check_tables.check(f"{folder}/artifact")
    print(f"  calibration tables of {n} tensors: {len(bad)} differ from their formats")
    failures += bad
    return row, failures


def mode_size(network, mode):
    return MODE_SIZE_DYNAMIC.get(network.name, MODE_SIZE[network.name]) \
        if mode == "dynamic" else MODE_SIZE[network.name]


def check_mode(network, mode, calibrated, arguments):
    label = f"{mode}, calibrated" if calibrated else mode
    return check_config(network, label, {"mode": mode}, calibrated, mode_size(network, mode),
                        MODE_OPERATORS[mode], arguments)[1:]


def check_bits(network, weights, kind, most, arguments):
    """weight_only with other weights than s8."""
    label = ", ".join(f"{k} {v}" for k, v in weights.items())
    operators = {"Cast"} if kind == FLOAT16 else {"DequantizeLinear"}
    model, row, failures = check_config(network, label, {"mode": "weight_only", "weights": weights},
                                        True, most, operators, arguments)
    codes = [i for i in model.graph.initializer if i.data_type == kind]
    if len(codes) < 2:
        failures.append(f"{label}: {len(codes)} initializers of type {kind}")
    return row, failures


def check_config(network, label, config, calibrated, most, expected, arguments):
    """One of the modes that need no data: the model, a row of the table, failures."""
    mode = config["mode"]
    folder = f"{arguments.work}/{network.name}-{label.replace(', ', '-').replace(' ', '_')}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    np.save(f"{folder}/input.npy", network.evaluation)
    with open(f"{folder}/job.json", "w") as f:
        json.dump(config, f)
    data = []
    if calibrated:
        np.save(f"{folder}/calibration.npy", network.calibration)
        data = ["--calibration", f"{folder}/calibration.npy"]
    run_quantd([arguments.quantd, "quantize", network.model, "--config", f"{folder}/job.json",
                "--threads", str(arguments.threads), "--output", f"{folder}/artifact"] + data)
    artifact = f"{folder}/artifact/model.qdq.onnx"
    verify_sums(f"{folder}/artifact")
    model = onnx.load(artifact)
    onnx.checker.check_model(model, full_check=True)
    failures = []
    size = os.path.getsize(artifact) / os.path.getsize(network.model)
    print(f"  {label}: {os.path.getsize(artifact)} bytes, {size:.3f} of the f32 model")
    if size > most:
        failures.append(f"{label}: the file is {size:.3f} of the f32 model (limit {most:g})")
    used = {n.op_type for n in model.graph.node}
    if not expected <= used:
        failures.append(f"{label}: no {sorted(expected - used)} in the artifact")
    run_quantd([arguments.quantd, "run", artifact, "--input", f"{folder}/input.npy",
                "--output", f"{folder}/output.npz", "--engine", "f32"])
    batch = 1 if mode == "dynamic" else network.batch
    theirs = run_ort(artifact, network.evaluation, batch, arguments.threads,
                     exact=mode == "dynamic")
    with np.load(f"{folder}/output.npz") as f:
        ours = {n: f[n] for n in f.files}
    f32 = run_ort(network.model, network.evaluation, network.batch, arguments.threads)
    for n in theirs:
        try:
            print("  " + compare(f"{label}, {n}", ours[n], theirs[n], None, limit=MODE_FAR[mode]))
        except Failure as e:
            failures.append(str(e))
    row = against_f32(network, f32, ours)
    row[0] += f" {label}"
    return model, row, failures


def integer_nodes(path, folder):
    """How many nodes ONNX Runtime has fused to integer ones, and how many products stay f32."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{folder}/optimized.onnx"
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = [n.op_type for n in onnx.load(f"{folder}/optimized.onnx").graph.node]
    fused = sum(t in ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
                for t in types)
    return fused, sum(t in ("Conv", "FusedConv", "Gemm", "MatMul") for t in types)


def check_asymmetric(network, arguments):
    """Weights with a zero point a channel: quantd's integers beside ONNX Runtime."""
    folder = f"{arguments.work}/{network.name}-asymmetric"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    np.save(f"{folder}/calibration.npy", network.calibration)
    np.save(f"{folder}/input.npy", network.evaluation)
    with open(f"{folder}/job.json", "w") as f:
        json.dump({"weights": {"scheme": "asymmetric"}}, f)
    run_quantd([arguments.quantd, "quantize", network.model, "--config", f"{folder}/job.json",
                "--calibration", f"{folder}/calibration.npy", "--threads",
                str(arguments.threads), "--output", f"{folder}/artifact"])
    artifact = f"{folder}/artifact/model.qdq.onnx"
    model = onnx.load(artifact)
    onnx.checker.check_model(model, full_check=True)
    zero_points = [numpy_helper.to_array(i) for i in model.graph.initializer
                   if i.name.endswith("_zero_point") and i.data_type == onnx.TensorProto.INT8]
    failures = []
    if not any(z.any() for z in zero_points):
        failures.append("asymmetric: all zero points of the weights are 0")
    run_quantd([arguments.quantd, "run", artifact, "--input", f"{folder}/input.npy",
                "--output", f"{folder}/output.npz", "--engine", "int8"])
    theirs = run_ort(artifact, network.evaluation, network.batch, arguments.threads)
    with np.load(f"{folder}/output.npz") as f:
        ours = {n: f[n] for n in f.files}
    quanta = output_quanta(model)
    for n in theirs:
        try:
            print("  " + compare(f"asymmetric, {n}", ours[n], theirs[n], quanta[n]))
        except Failure as e:
            failures.append(str(e))
    fused, f32 = integer_nodes(artifact, folder)
    print(f"  asymmetric: ONNX Runtime runs {fused} products on integers, {f32} in f32")
    row = against_f32(network, run_ort(network.model, network.evaluation, network.batch,
                                       arguments.threads), ours)
    row[0] += " asymmetric weights"
    return row, failures


def print_table(rows):
    head = ["network", "SQNR dB", "top-1 agreement", "accuracy f32", "accuracy int8"]
    width = [max(len(r[k]) for r in [head] + rows) for k in range(len(head))]
    for r in [head] + rows:
        print("  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip())


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    p = argparse.ArgumentParser()
    p.add_argument("--quantd", default=f"{root}/build/quantd")
    p.add_argument("--work", default=f"{root}/build/interop")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--full", action="store_true", help="the whole split, not 100 samples")
    p.add_argument("names", nargs="*", help="networks (all)")
    arguments = p.parse_args()
    unknown = set(arguments.names) - set(networks.LOADERS)
    if unknown:
        p.error(f"unknown networks {sorted(unknown)}; known: {sorted(networks.LOADERS)}")
    rows, passed, failed = [], 0, 0
    for name in arguments.names or networks.LOADERS:
        if not networks.present(root, name):
            print(f"{name}: not checked, {networks.model_path(root, name)} is absent")
            continue
        begin = time.monotonic()
        print(f"{name}:", flush=True)
        try:
            network = networks.load(root, name, None if arguments.full else QUICK_SAMPLES)
            row, failures = check(network, arguments)
            rows.append(row)
            if name in ASYMMETRIC:
                row, more = check_asymmetric(network, arguments)
                rows.append(row)
                failures += more
            for mode in MODES if name in MODE_SIZE else ():
                for calibrated in False, True:
                    row, more = check_mode(network, mode, calibrated, arguments)
                    rows.append(row)
                    failures += more
            for weights, kind, most in BITS if name in BITS_NETWORKS else ():
                most = most if name in MODE_SIZE else 1  # mostly names
                row, more = check_bits(network, weights, kind, most, arguments)
                rows.append(row)
                failures += more
        except Exception as e:  # one network's failure must not hide the others' results
            failures = [f"{type(e).__name__}: {e}"]
        for f in failures:
            print(f"  FAILED {f}")
        passed, failed = passed + (not failures), failed + bool(failures)
        print(f"  {time.monotonic() - begin:.1f} s", flush=True)
    print_table(rows)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
