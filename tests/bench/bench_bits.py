#!/usr/bin/env python3
"""What weights of few bits cost: file size and accuracy of `mode: weight_only`, bits by bits.

    bench_bits.py [--quantd build/quantd] [--work build/bits] [--threads 2] [--quick] [--save FILE]
                  [NAME ...]

Networks, samples and split are those of bench_accuracy.py: calibrated (for the biases) with its 500
or 100 samples, evaluated in ONNX Runtime on 10,000 or 400 others. The artifact's DequantizeLinear of
INT4 weights is left to ONNX Runtime: where it stands before a MatMul, that may fuse both to
MatMulNBits; how many nodes of which kind its optimized graph has is counted.
"""
import argparse
import collections
import json
import os
import sys

import onnx
import onnxruntime as ort

import bench_accuracy as accuracy
from bench_accuracy import Recipe, interop

NETWORKS = ["fashion_mnist", "resnet20_cifar10", "squeezenet10_dc_imagenet"]
WEIGHTS = {"8": {}, "4": {"bits": 4}, "4, asymmetric": {"bits": 4, "scheme": "asymmetric"},
           "4, blocks of 32": {"bits": 4, "block_size": 32},
           "4, blocks of 128": {"bits": 4, "block_size": 128},
           "3": {"bits": 3}, "2": {"bits": 2}, "1": {"bits": 1}, "float16": {"bits": 16}}


def products(artifact, work):
    """Kinds of nodes that ONNX Runtime multiplies and dequantizes with."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{work}/optimized.onnx"
    ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(f"{work}/optimized.onnx").graph
    kinds = collections.Counter(n.op_type for n in graph.node)
    return {k: n for k, n in sorted(kinds.items())
            if any(word in k for word in ("MatMul", "Gemm", "Conv", "Dequantize"))}


def measure(bench, name, weights, arguments):
    config = {"mode": "weight_only", "weights": weights}
    folder, wall, _ = bench.quantize(Recipe(f"bits {name}", config, "data"))
    artifact = f"{folder}/model.qdq.onnx"
    out = next(iter(interop.run_ort(artifact, bench.network.evaluation, bench.network.batch,
                                    arguments.threads, exact=False).values()))
    size = os.path.getsize(artifact) / os.path.getsize(bench.network.model)
    return {"network": bench.name, "weights": name, "size": round(size, 3),
            "sqnr_db": round(float(interop.sqnr_db(bench.f32, out)), 2),
            "agreement": accuracy.per_cent(bench.f32.argmax(1) == out.argmax(1)),
            "seconds": round(wall, 2), "nodes": products(artifact, folder)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--quantd", default=f"{accuracy.ROOT}/build/quantd")
    p.add_argument("--work", default=f"{accuracy.ROOT}/build/bits")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="100 samples of each")
    p.add_argument("--save")
    p.add_argument("names", nargs="*", help="networks")
    arguments = p.parse_args()
    rows = []
    for name in arguments.names or NETWORKS:
        bench = accuracy.Bench(name, arguments)
        for label, weights in WEIGHTS.items():
            row = measure(bench, label, weights, arguments)
            rows.append(row)
            print(f"| {name} | {label} | {row['size']:.3f} | {row['sqnr_db']:.2f} | "
                  f"{row['agreement']:.2f} |  {row['nodes']}", flush=True)
    if arguments.save:
        with open(arguments.save, "w") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
