#!/usr/bin/env python3
"""Writes the seeds of the model target into tests/fuzz/corpus/model/: small networks that between
them hold most operators. One of them has its weights in a file beside it, in corpus/onnx/, where
the one with weights of 4 bits stands too. Python's standard library alone; the same bytes at every run."""
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus" / "model"
EXTERNAL = ROOT.parent / "onnx" / "external_net.onnx"
F32, U8, S8, S32, S64, F16, U4, S4 = 1, 2, 3, 6, 7, 10, 21, 22
CODES = {F32: "f", U8: "B", S8: "b", S32: "i", S64: "q"}


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A varint for an int, else length-delimited bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, kind, dims, values):
    return (b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) +
            field(9, struct.pack(f"<{len(values)}{CODES[kind]}", *values)))


def halves(name, kind, dims, values, raw=True):
    """Two of 4 bits in a byte (raw_data), or in an int32 (int32_data)."""
    values = [v & 15 for v in values] + [0] * (len(values) % 2)
    data = bytes(a | b << 4 for a, b in zip(values[::2], values[1::2]))
    return (b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) +
            (field(9, data) if raw else field(5, b"".join(varint(b) for b in data))))


def external(name, dims, file, offset, size):
    """An f32 tensor whose data are in a file."""
    entries = {"location": file, "offset": str(offset), "length": str(size)}
    return (b"".join(field(1, d) for d in dims) + field(2, F32) + field(8, name) +
            b"".join(field(13, field(1, k) + field(2, v)) for k, v in entries.items()) +
            field(14, 1))


def attribute(name, value):
    out = field(1, name)
    if isinstance(value, float):
        return out + varint(2 << 3 | 5) + struct.pack("<f", value) + field(20, 1)
    if isinstance(value, int):
        return out + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return out + field(4, value) + field(20, 3)
    if isinstance(value, bytes):
        return out + field(5, value) + field(20, 4)
    return out + b"".join(field(8, v) for v in value) + field(20, 7)


def node(op, inputs, outputs, **attributes):
    return (b"".join(field(1, i) for i in inputs.split(" ") if inputs) +
            b"".join(field(2, o) for o in outputs.split(" ")) +
            field(3, outputs.split(" ")[0]) + field(4, op) +
            b"".join(field(5, attribute(k, v)) for k, v in attributes.items()))


def value(name, dims, kind=F32):
    shape = b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def model(nodes, inputs, outputs, tensors=(), opset=13):
    graph = (b"".join(field(1, n) for n in nodes) + field(2, "g") +
             b"".join(field(5, t) for t in tensors) + b"".join(field(11, i) for i in inputs) +
             b"".join(field(12, o) for o in outputs))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, opset))


def ramp(n, step=0.25):
    return [step * ((i * 7) % 11 - 5) for i in range(n)]


IMAGE = [value("x", ["N", 2, 5, 5])]


def conv_net(w=None, f=None):
    tensors = [w or tensor("w", F32, [3, 2, 3, 3], ramp(54)), tensor("b", F32, [3], ramp(3)),
               tensor("s", F32, [3], [1, 2, 3]), tensor("m", F32, [3], [0, 1, 0]),
               tensor("v", F32, [3], [1, 1, 4]), f or tensor("f", F32, [2, 3], ramp(6))]
    nodes = [node("Conv", "x w", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
             node("BatchNormalization", "c s b m v", "n", epsilon=1e-5),
             node("Relu", "n", "r"), node("GlobalAveragePool", "r", "p"),
             node("Flatten", "p", "q", axis=1), node("Gemm", "q f", "g", transB=1, alpha=0.5),
             node("Softmax", "g", "y", axis=1)]
    return model(nodes, IMAGE, [value("y", ["N", 2])], tensors)


def external_net():
    """conv_net with two tensors in a file, the second at an odd address."""
    file = EXTERNAL.with_suffix(".bin").name
    data = struct.pack("<54f", *ramp(54)) + b"-" + struct.pack("<6f", *ramp(6))
    return conv_net(external("w", [3, 2, 3, 3], file, 0, 216),
                    external("f", [2, 3], file, 217, 24)), data


def depthwise_net():
    tensors = [tensor("w", F32, [2, 1, 3, 3], ramp(18)), tensor("lo", F32, [], [0.0]),
               tensor("hi", F32, [], [6.0]), tensor("h", F32, [], [0.5])]
    nodes = [node("Conv", "x w", "c", group=2, dilations=[2, 2], auto_pad="SAME_UPPER"),
             node("Clip", "c lo hi", "k"), node("MaxPool", "k", "p", kernel_shape=[2, 2],
                                                strides=[2, 2], ceil_mode=1),
             node("AveragePool", "p", "a", kernel_shape=[2, 2], pads=[0, 0, 1, 1],
                  count_include_pad=1),
             node("Sigmoid", "a", "s"), node("Mul", "a s", "m"), node("Add", "m h", "z"),
             node("LeakyRelu", "z", "l", alpha=0.1), node("Concat", "l z", "y", axis=1)]
    return model(nodes, IMAGE, [value("y", ["N", 4, 3, 3])], tensors)


def shape_net():
    tensors = [tensor("zero", S64, [1], [0]), tensor("one", S64, [1], [1]),
               tensor("minus", S64, [1], [-1])]
    nodes = [node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0),
             node("Concat", "n minus", "t", axis=0), node("Reshape", "x t", "r"),
             node("Unsqueeze", "r one", "u"), node("Squeeze", "u one", "q"),
             node("Transpose", "q", "y", perm=[1, 0])]
    return model(nodes, IMAGE, [value("y", [50, "N"])], tensors)


def resize_net():
    tensors = [tensor("scales", F32, [4], [1, 1, 2, 1.5]), tensor("starts", S64, [2], [0, -4]),
               tensor("ends", S64, [2], [9223372036854775807, -1]),
               tensor("axes", S64, [2], [2, 3]), tensor("pads", S64, [8], [0, 0, 1, 0, 0, 0, 0, 2]),
               tensor("v", F32, [], [0.5]), tensor("r", S64, [2], [2, 3])]
    nodes = [node("Resize", "x  scales", "a", mode="linear",
                  coordinate_transformation_mode="half_pixel"),
             node("Slice", "a starts ends axes", "b"), node("Pad", "b pads v", "c"),
             node("ReduceMean", "c", "d", axes=[2, 3], keepdims=0), node("HardSwish", "d", "e"),
             node("Sub", "e v", "h"), node("Div", "h v", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 2])], tensors, opset=14)


def axes_net():
    """Pad, Resize and ReduceMean of some axes, in the form of opset 18."""
    tensors = [tensor("pads", S64, [4], [1, -2, 2, 1]), tensor("axes", S64, [2], [-1, 2]),
               tensor("sizes", S64, [2], [9, 3]), tensor("scales", F32, [1], [1.5])]
    nodes = [node("Pad", "x pads  axes", "a", mode="wrap"),
             node("Resize", "a   sizes", "b", axes=[2, -1], mode="linear", antialias=0,
                  keep_aspect_ratio_policy="stretch"),
             node("Resize", "b  scales", "c", axes=[3], nearest_mode="floor",
                  coordinate_transformation_mode="half_pixel_symmetric"),
             node("AveragePool", "c", "d", kernel_shape=[2, 2], dilations=[1, 1]),
             node("ReduceMean", "d axes", "y", keepdims=0, noop_with_empty_axes=1)]
    return model(nodes, IMAGE, [value("y", ["N", 2])], tensors, opset=21)


def qdq_net():
    tensors = [tensor("xs", F32, [], [0.1]), tensor("xz", U8, [], [128]),
               tensor("w", S8, [3, 2, 1, 1], [1, -2, 3, -4, 5, -127]),
               tensor("ws", F32, [3], [0.01, 0.02, 0.03]), tensor("wz", S8, [3], [0, 0, 0]),
               tensor("b", S32, [3], [10, -20, 30]), tensor("bs", F32, [3], [0.001, 0.002, 0.003]),
               tensor("bz", S32, [3], [0, 0, 0]), tensor("ys", F32, [], [0.05])]
    nodes = [node("QuantizeLinear", "x xs xz", "xq"), node("DequantizeLinear", "xq xs xz", "xd"),
             node("DequantizeLinear", "w ws wz", "wd", axis=0),
             node("DequantizeLinear", "b bs bz", "bd", axis=0),
             node("Conv", "xd wd bd", "c"), node("Relu", "c", "r"),
             node("QuantizeLinear", "r ys xz", "rq"), node("DequantizeLinear", "rq ys xz", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 3, 5, 5])], tensors)


def int4_net():
    """Weights of 4 bits a channel and in blocks, and of float16."""
    half = (b"".join(field(1, d) for d in (3, 3)) + field(2, F16) + field(8, "h") +
            field(9, struct.pack("<9e", *ramp(9))))
    tensors = [halves("w", S4, [3, 2, 1, 1], [1, -2, 3, -4, 5, -8]),
               tensor("ws", F32, [3], [0.1, 0.2, 0.3]), halves("wz", S4, [3], [0, 1, -1], False),
               halves("v", U4, [3, 75], [i * 7 % 16 for i in range(225)], False),
               tensor("vs", F32, [3, 3], [0.01 * (i + 1) for i in range(9)]),
               halves("vz", U4, [3, 3], [8] * 9), half]
    nodes = [node("DequantizeLinear", "w ws wz", "wd", axis=0), node("Conv", "x wd", "c"),
             node("Flatten", "c", "f"),
             node("DequantizeLinear", "v vs vz", "vd", axis=1, block_size=32),
             node("Gemm", "f vd", "g", transB=1), node("Cast", "h", "k", to=F32),
             node("MatMul", "g k", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 3])], tensors, opset=21)


def matmul_net():
    tensors = [tensor("w", F32, [5, 3], ramp(15)), tensor("e", F32, [], [2.0]),
               tensor("k", F32, [1, 1, 1, 3], ramp(3))]
    constant = tensor("", F32, [1], [0.25])
    nodes = [node("MatMul", "x w", "m"), node("Constant", "", "c", value=constant),
             node("Add", "m c", "a"), node("Mul", "a k", "s"), node("HardSigmoid", "s", "p"),
             node("Div", "p e", "q"), node("Exp", "q", "f"), node("Tanh", "f", "t"),
             node("Cast", "t", "i", to=S64), node("Cast", "i", "g", to=F32),
             node("Identity", "g", "d"), node("Dropout", "d", "y")]
    return model(nodes, IMAGE, [value("y", ["N", 2, 5, 3])], tensors)


def batch_net():
    """Outputs that are no sample: a padded batch axis, a batch in second place, one element."""
    tensors = [tensor("pads", S64, [8], [1, 0, 0, 0, 2, 0, 0, 0]), tensor("t", S64, [2], [50, -1])]
    nodes = [node("Pad", "x pads", "y"), node("Reshape", "x t", "z"),
             node("ReduceMean", "x", "m", keepdims=0)]
    return model(nodes, IMAGE, [value("y", ["M", 2, 5, 5]), value("z", [50, "N"]),
                                value("m", [])], tensors)


def parts_net():
    """Operators that cut up, repeat and upsample: [N,2,5,5] to 8 channels and back."""
    tensors = [tensor("w", F32, [2, 4, 2, 3], ramp(48)), tensor("b", F32, [8], ramp(8)),
               tensor("s", S64, [3], [3, 1, 4]), tensor("e", S64, [4], [1, 4, 1, 10]),
               tensor("t", S64, [4], [1, 2, 1, 2])]
    nodes = [node("ConvTranspose", "x w b", "c", group=2, strides=[2, 2], pads=[0, 1, 1, 1],
                  dilations=[1, 2], output_padding=[1, 0]),
             node("Split", "c s", "p q r", axis=1), node("DepthToSpace", "r", "d", blocksize=2,
                                                         mode="CRD"),
             node("Split", "d", "f  g", axis=-1, num_outputs=3),
             node("SpaceToDepth", "d", "k", blocksize=2), node("GlobalMaxPool", "q", "m"),
             node("Expand", "m e", "n"), node("Tile", "n t", "o"),
             node("ConvTranspose", "k v", "u", auto_pad="SAME_LOWER", output_shape=[3, 4]),
             node("Relu", "u", "y")]
    tensors.append(tensor("v", F32, [4, 1, 1, 2], ramp(8)))
    return model(nodes, IMAGE, [value("y", ["N", 1, 3, 4]), value("o", ["N", 8, 1, 20]),
                                value("p", ["N", 3, 10, 12]), value("g", ["N", 1, 20, 8])],
                 tensors, opset=18)


def norm_net():
    """Normalisations, reductions, selection, functions of one tensor and of several."""
    tensors = [tensor("s", F32, [5], ramp(5)), tensor("c", F32, [2], [1, -2]),
               tensor("d", F32, [2, 1, 1], [0.1, 0.3]), tensor("k", F32, [], [0.5]),
               tensor("two", S64, [], [2]), tensor("axes", S64, [1], [-1])]
    nodes = [node("LayerNormalization", "x s s", "a", axis=-1),
             node("InstanceNormalization", "a c c", "b"), node("LRN", "b", "e", size=3),
             node("GroupNormalization", "e c c", "f", num_groups=2), node("PRelu", "f d", "g"),
             node("Pow", "g two", "h"), node("Max", "h k g", "i"), node("Less", "i k", "l"),
             node("Not", "l", "m"), node("Or", "l m", "n"), node("Where", "n g h", "o"),
             node("Gelu", "o", "p", approximate="tanh"), node("Selu", "p", "q"),
             node("Softplus", "q", "r"), node("Mish", "r", "t"), node("Erf", "t", "u"),
             node("LogSoftmax", "u", "v"), node("ReduceL2", "v axes", "w", keepdims=0),
             node("ReduceMax", "w", "z", keepdims=1), node("Sqrt", "z", "y")]
    return model(nodes, IMAGE, [value("y", [1, 1, 1])], tensors, opset=21)


def split_net():
    """The outputs' names are the inputs of pair_net, in another order."""
    return model([node("Relu", "x", "r"), node("Mul", "x three", "l")], [value("x", ["N", 2])],
                 [value("r", ["N", 2]), value("l", ["N", 2])], [tensor("three", F32, [], [3.0])])


def pair_net():
    return model([node("Sub", "l r", "y")], [value("l", ["N", 2]), value("r", ["N", 2])],
                 [value("y", ["N", 2])])


def relu_net():
    return model([node("Relu", "x", "y")], [value("x", ["N", 2])], [value("y", ["N", 2])])


def main():
    ROOT.mkdir(parents=True, exist_ok=True)
    for make in (conv_net, depthwise_net, shape_net, resize_net, axes_net, qdq_net, int4_net,
                 matmul_net, parts_net, norm_net, batch_net, split_net, pair_net, relu_net):
        (ROOT / f"{make.__name__}.onnx").write_bytes(make())
    network, data = external_net()
    EXTERNAL.write_bytes(network)
    EXTERNAL.with_name("int4_net.onnx").write_bytes(int4_net())
    EXTERNAL.with_suffix(".bin").write_bytes(data)


if __name__ == "__main__":
    main()
