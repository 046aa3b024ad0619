#!/usr/bin/env python3
"""Writes the seeds of the quantize target into tests/fuzz/corpus/quantize/: networks in f32, and
such that are quantized already, wholly, in part, or in forms that have to stay as they are.
Python's standard library alone; the same bytes at every run."""
import pathlib

import make_model_corpus as base
from make_model_corpus import F32, IMAGE, S32, S8, U8, model, node, ramp, tensor, value

ROOT = pathlib.Path(__file__).parent / "corpus" / "quantize"


def pair(name, scale, zero_point, kind=U8):
    return [tensor(f"{name}_s", F32, [], [scale]), tensor(f"{name}_z", kind, [], [zero_point])]


def fake(x, name, out=None):
    """QuantizeLinear and DequantizeLinear of x with the pair called name."""
    return [node("QuantizeLinear", f"{x} {name}_s {name}_z", f"{name}_q"),
            node("DequantizeLinear", f"{name}_q {name}_s {name}_z", out or f"{name}_dq")]


def half_net():
    """The first Conv is quantized in s8, the second is not; a pool between them."""
    tensors = [*pair("x", 0.1, 3, S8), *pair("p", 0.2, -4, S8),
               tensor("w", S8, [3, 2, 1, 1], [1, -2, 3, -4, 5, -128]),
               tensor("ws", F32, [3], [0.01, 0.02, 0.03]), tensor("v", F32, [2, 3, 1, 1], ramp(6)),
               tensor("b", F32, [3], ramp(3))]
    nodes = [*fake("x", "x"), node("DequantizeLinear", "w ws", "wd", axis=0),
             node("Conv", "x_dq wd b", "c"), node("Relu", "c", "r"),
             node("MaxPool", "r", "m", kernel_shape=[2, 2]), *fake("m", "p"),
             node("Conv", "p_dq v", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 2, 4, 4])], tensors)


def dense_net():
    """Transposed weights, weights behind both operators, a quantized Softmax at the end."""
    tensors = [*pair("x", 0.1, 3), *pair("h", 0.2, 0), *pair("l", 0.3, 7), *pair("y", 1 / 256, 0),
               *pair("v", 0.25, 0, S8), tensor("w", S8, [4, 3], [(i * 5) % 9 - 4 for i in range(12)]),
               tensor("ws", F32, [4], [0.1, 0.2, 0.3, 0.4]), tensor("wz", S8, [4], [0] * 4),
               tensor("vf", F32, [4, 2], ramp(8)), tensor("b", S32, [2], [1000, -1000]),
               tensor("bs", F32, [], [0.05]), tensor("bz", S32, [], [0])]
    nodes = [*fake("x", "x"), node("DequantizeLinear", "w ws wz", "wd", axis=0),
             node("Transpose", "wd", "wt"), node("MatMul", "x_dq wt", "a"), node("Relu", "a", "r"),
             *fake("r", "h"), *fake("vf", "v"), node("DequantizeLinear", "b bs bz", "bd"),
             node("Gemm", "h_dq v_dq bd", "g"), *fake("g", "l"), node("Softmax", "l_dq", "s"),
             *fake("s", "y", "y")]
    return model(nodes, [value("x", ["N", 3])], [value("y", ["N", 2])], tensors)


def odd_net():
    """u8 weights with a zero point, two pairs on a tensor, two pairs around a Reshape, codes that
    are an output, a Concat of three pairs."""
    tensors = [*pair("x", 0.1, 3), *pair("k", 0.3, 5), *pair("c", 0.2, 100), *pair("f", 0.4, 9),
               tensor("w", U8, [2, 2, 1, 1], [0, 255, 100, 7]), tensor("ws", F32, [1], [0.01]),
               tensor("wz", U8, [1], [100]), tensor("t", base.S64, [2], [0, -1]),
               tensor("v", F32, [100, 2], ramp(200))]
    nodes = [*fake("x", "x"), *fake("x", "k"), node("DequantizeLinear", "w ws wz", "wd"),
             node("Conv", "x_dq wd", "a"), node("Concat", "a k_dq", "cat", axis=1),
             *fake("cat", "c"), node("Reshape", "c_dq t", "r"), *fake("r", "f"),
             node("MatMul", "f_dq v", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 2]), value("k_q", ["N", 2, 5, 5], U8)], tensors)


def folded_net():
    """A BatchNormalization to fold into integer weights, one scale for all of them."""
    tensors = [*pair("x", 0.1, 3), tensor("w", S8, [3, 2, 1, 1], [1, -2, 3, -4, 5, -127]),
               tensor("ws", F32, [], [0.01]), tensor("s", F32, [3], [1, 2, 3]),
               tensor("o", F32, [3], [0, 1, 0]), tensor("v", F32, [3], [1, 1, 4])]
    nodes = [*fake("x", "x"), node("DequantizeLinear", "w ws", "wd"), node("Conv", "x_dq wd", "c"),
             node("BatchNormalization", "c s o o v", "n", epsilon=1e-5), node("Relu", "n", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 3, 5, 5])], tensors)


def main():
    ROOT.mkdir(parents=True, exist_ok=True)
    for make in (base.conv_net, base.depthwise_net, base.matmul_net, base.qdq_net,
                 base.parts_net, base.norm_net, half_net, dense_net, folded_net, odd_net):
        (ROOT / f"{make.__name__}.onnx").write_bytes(make())


if __name__ == "__main__":
    main()
