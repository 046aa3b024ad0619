"""quantd's calibration tables as other tools read them.

ONNX Runtime's table goes through the loader behind quantize_static(calibration_cache_path=...), and
its own formula has to find quantd's scale, within f32 rounding, and zero point. The others have to
hold what their formats define, computed here a second time from calibration.json.
"""
import json
import struct

import numpy as np
from onnxruntime.quantization import quant_utils
from onnxruntime.quantization.calibrate import CalibrationMethod, load_tensors_data

FORMATS = "ncnn,tensorrt,ort,aimet"
ROUNDING = 3e-7  # relative: a range in f32, a division in f32


def close(a, b):
    return abs(a - b) <= ROUNDING * abs(b)


def tensors_of(table):
    """Every tensor with its row, those that share a pair too."""
    return {n: r for r in table["tensors"] for n in [r["tensor"]] + r.get("shared", [])}


def limits(row):
    return (-128, 127) if row["dtype"] == "s8" else (0, 255)


def amax(row):
    low, high = limits(row)
    below, above = row["zero_point"] - low, high - row["zero_point"]
    return row["scale"] * (127 if below == 128 else max(below, above))


def check_ort(path, tensors):
    loaded = load_tensors_data(path)
    loaded = loaded[0] if isinstance(loaded, tuple) else loaded
    bad = [] if set(loaded.keys()) == set(tensors) else ["the names differ"]
    if loaded.calibration_method != CalibrationMethod.MinMax:
        bad.append(f"method {loaded.calibration_method}")
    for name, row in tensors.items():
        dtype = np.int8 if row["dtype"] == "s8" else np.uint8
        low, high = limits(row)
        zero, scale = quant_utils.compute_scale_zp(*loaded[name].range_value, np.array(low, dtype),
                                                   np.array(high, dtype), symmetric=False)
        if int(zero) != row["zero_point"] or not close(float(scale), row["scale"]):
            bad.append(f"{name}: ({float(scale)}, {int(zero)}), here "
                       f"({row['scale']}, {row['zero_point']})")
    return bad


def check_tensorrt(path, tensors):
    with open(path) as f:
        lines = f.read().splitlines()
    scales = {n: struct.unpack(">f", bytes.fromhex(h))[0]
              for n, h in (line.rsplit(": ", 1) for line in lines[1:])}
    bad = [] if lines[0].startswith("TRT-") else [f"first line {lines[0]!r}"]
    bad += [] if set(scales) == set(tensors) else ["the names differ"]
    return bad + [f"{n}: {s}" for n, s in scales.items()
                  if n in tensors and not close(s, amax(tensors[n]) / 127)]


def check_ncnn(path, table, tensors):
    with open(path) as f:
        lines = dict(line.split(" ", 1) for line in f.read().splitlines())
    bad = [] if len(lines) == 2 * len(table["layers"]) else [f"{len(lines)} lines"]
    for layer in table["layers"]:
        weights = [float(x) for x in lines[layer["node"] + "_param_0"].split()]
        scales = np.broadcast_to(layer["scales"], layer["channels"])
        if layer["groups"] > 1:
            scales = scales.reshape(layer["groups"], -1).max(axis=1)
        data = float(lines[layer["node"]])
        if len(weights) != len(scales) or not all(close(1 / w, s) for w, s in zip(weights, scales)):
            bad.append(f"weights of {layer['node']}")
        if not close(127 / data, amax(tensors[layer["input"]])):
            bad.append(f"input of {layer['node']}: {data}")
    return bad


def check_aimet(path, table, tensors):
    with open(path) as f:
        is_ = json.load(f)
    bad = [] if is_["version"] == "0.6.1" else [f"version {is_['version']}"]
    for name, row in tensors.items():
        e, = is_["activation_encodings"][name]
        # AIMET's own rule: x = (code + offset) * scale for codes 0 .. 255
        good = (e["bitwidth"] == 8 and close(e["scale"], row["scale"])
                and e["offset"] == limits(row)[0] - row["zero_point"]
                and close(e["min"], e["scale"] * e["offset"])
                and close(e["max"], e["scale"] * (e["offset"] + 255)))
        bad += [] if good else [f"{name}: {e}"]
    for layer in table["layers"]:
        es = is_["param_encodings"][layer["weights"]]
        if [e["scale"] for e in es] != layer["scales"] or any(e["offset"] != -128 for e in es):
            bad.append(f"weights {layer['weights']}")
    return bad


def check(folder):
    """Failures of the tables in a folder that quantd quantize wrote with all FORMATS."""
    with open(f"{folder}/calibration.json") as f:
        table = json.load(f)
    tensors = tensors_of(table)
    found = {"ort": check_ort(f"{folder}/calibration.ort.json", tensors),
             "tensorrt": check_tensorrt(f"{folder}/calibration.tensorrt.cache", tensors),
             "ncnn": check_ncnn(f"{folder}/calibration.ncnn.table", table, tensors),
             "aimet": check_aimet(f"{folder}/calibration.aimet.json", table, tensors)}
    return len(tensors), [f"{kind} table: {f}" for kind, bad in found.items() for f in bad]
