"""Small networks with random weights for the interoperability check: operators that the trained
ones lack."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A chain of nodes; values are names."""

    def __init__(self, shape, opset):
        self.random = np.random.default_rng(7)
        self.opset, self.nodes, self.constants = opset, [], []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape, fan=None):
        fan = fan or int(np.prod(shape[1:]))
        return self.constant(self.random.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32))

    def vector(self, n, mean=0.0, std=0.1):
        return self.constant(self.random.normal(mean, std, n).astype(np.float32))

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op.lower()}{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, n_in, n_out, kernel=3, **attributes):
        group = attributes.get("group", 1)
        return self.node("Conv", x, self.weights(n_out, n_in // group, kernel, kernel),
                         self.vector(n_out), pads=[kernel // 2] * 4, **attributes)

    def dense(self, x, n_in, n_out):
        """The linear layer of a transformer: MatMul and Add."""
        y = self.node("MatMul", x, self.weights(n_in, n_out, fan=n_in))
        return self.node("Add", y, self.vector(n_out))

    def model(self, *outputs):
        graph = helper.make_graph(
            self.nodes, "made", self.inputs,
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs],
            self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)],
                                  ir_version=10 if self.opset >= 21 else 9 if self.opset >= 20 else 8)
        return onnx.shape_inference.infer_shapes(model)


def split_shuffle():
    """Split into branches, a shuffle of channels, pixels out of channels and back."""
    b = Builder((8, 16, 16), 13)
    x = b.node("Relu", b.conv("x", 8, 16))
    left, right = b.node("Split", x, b.ints(6, 10), outputs=2, axis=1)
    right = b.node("Relu", b.conv(right, 10, 10))
    x = b.node("Concat", left, right, axis=1)
    x = b.node("Reshape", x, b.ints(-1, 2, 8, 16, 16))
    x = b.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = b.node("Reshape", x, b.ints(-1, 16, 16, 16))
    first, second = b.node("Split", b.node("Relu", b.conv(x, 16, 16)), outputs=2, axis=1)
    x = b.node("Add", first, b.conv(second, 8, 8))
    x = b.conv(b.node("DepthToSpace", x, blocksize=2, mode="CRD"), 2, 4)
    x = b.conv(b.node("SpaceToDepth", x, blocksize=4), 64, 16, kernel=1)
    x = b.node("DepthToSpace", b.node("Relu", x), blocksize=2)
    x = b.node("GlobalAveragePool", b.node("Relu", b.conv(x, 4, 16)))
    y = b.node("Gemm", b.node("Flatten", x), b.weights(16, 10), b.vector(10))
    return b.model(y, b.node("MaxPool", left, kernel_shape=[2, 2]))


def decoder():
    """Down and up again: ConvTranspose with a BatchNormalization, in groups, a channel each, last."""
    b = Builder((6, 16, 16), 13)
    x = b.node("Relu", b.conv("x", 6, 16, strides=[2, 2]))
    down = b.node("Relu", b.conv(x, 16, 32, strides=[2, 2]))
    x = b.node("ConvTranspose", down, b.weights(32, 16, 3, 3, fan=72), strides=[2, 2],
               pads=[1, 1, 1, 1], output_padding=[1, 1])
    x = b.node("BatchNormalization", x, b.vector(16, 1), b.vector(16), b.vector(16),
               b.constant(b.random.uniform(0.5, 1.5, 16).astype(np.float32)))
    x = b.node("Relu", x)
    x = b.node("ConvTranspose", x, b.weights(16, 6, 2, 2, fan=8), b.vector(12), strides=[2, 2],
               group=2)
    x = b.conv(b.node("Relu", x), 12, 8)
    x = b.node("ConvTranspose", x, b.weights(8, 1, 4, 4, fan=4), b.vector(8), strides=[2, 2],
               auto_pad="SAME_UPPER", group=8)
    return b.model(b.node("ConvTranspose", x, b.weights(8, 3, 3, 3, fan=72), b.vector(3)))


def opset_21():
    """The forms of opsets 18 and 19 and an exporter's notes on every node: axes of Pad and Resize,
    of ReduceMean as a Constant node, AveragePool's dilations, a Split by the number of parts."""
    b = Builder((3, 16, 16), 21)
    x = b.node("Pad", "x", b.ints(1, 2, 2, 1), "", b.ints(-1, 2), mode="wrap")
    x = b.node("Relu", b.conv(x, 3, 16))
    x = b.node("AveragePool", x, kernel_shape=[2, 2], dilations=[1, 1], strides=[2, 2])
    first, second = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
    x = b.node("Concat", b.conv(first, 8, 8), second, axis=1)
    x = b.node("Resize", x, "", b.constant(np.float32([2, 2])), axes=[2, 3], antialias=0,
               coordinate_transformation_mode="half_pixel_symmetric", mode="linear")
    x = b.node("Relu", b.conv(x, 16, 24, strides=[2, 2]))
    axes = b.node("Constant", value=numpy_helper.from_array(np.array([2, -1])))
    x = b.node("ReduceMean", x, axes, keepdims=0, noop_with_empty_axes=0)
    x = b.node("Reshape", x, b.ints(-1, 24), allowzero=1)
    for node in b.nodes:
        entry = node.metadata_props.add()
        entry.key, entry.value = "namespace", "made." + node.op_type
    return b.model(b.node("Gemm", x, b.weights(24, 10), b.vector(10)))


def layer_norm(b, x, n):
    """LayerNormalization before opset 17."""
    d = b.node("Sub", x, b.node("ReduceMean", x, axes=[-1]))
    power = b.node("Pow", d, b.constant(np.float32(2)))
    deviation = b.node("Sqrt", b.node("Add", b.node("ReduceMean", power, axes=[-1]),
                                      b.constant(np.float32(1e-5))))
    y = b.node("Mul", b.node("Div", d, deviation), b.vector(n, 1))
    return b.node("Add", y, b.vector(n))


def erf_gelu(b, x):
    """Gelu before opset 20."""
    y = b.node("Erf", b.node("Div", x, b.constant(np.float32(2 ** 0.5))))
    y = b.node("Mul", x, b.node("Add", y, b.constant(np.float32(1))))
    return b.node("Mul", y, b.constant(np.float32(0.5)))


def transformer(opset):
    """Patches, a class token, one block of attention and one of two linear layers, a classifier."""
    def make():
        dims, heads, tokens = 32, 4, 17
        b = Builder((3, 16, 16), opset)
        norm = (lambda x: b.node("LayerNormalization", x, b.vector(dims, 1), b.vector(dims),
                                 axis=-1)) if opset >= 17 else lambda x: layer_norm(b, x, dims)
        gelu = (lambda x: b.node("Gelu", x)) if opset >= 20 else lambda x: erf_gelu(b, x)
        x = b.node("Conv", "x", b.weights(dims, 3, 4, 4), b.vector(dims), strides=[4, 4])
        x = b.node("Transpose", b.node("Reshape", x, b.ints(0, dims, -1)), perm=[0, 2, 1])
        batch = b.node("Gather", b.node("Shape", "x"), b.ints(0))
        token = b.node("Expand", b.constant(b.random.normal(0, 1, (1, 1, dims)).astype(np.float32)),
                       b.node("Concat", batch, b.ints(1, dims), axis=0))
        x = b.node("Concat", token, x, axis=1)
        x = b.node("Add", x, b.constant(
            b.random.normal(0, 0.3, (1, tokens, dims)).astype(np.float32)))
        qkv = b.node("Reshape", b.dense(norm(x), dims, 3 * dims),
                     b.ints(0, tokens, 3, heads, dims // heads))
        qkv = b.node("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        equal = {"num_outputs": 3} if opset >= 18 else {}
        q, k, v = (b.node("Squeeze", part, b.ints(0))
                   for part in b.node("Split", qkv, outputs=3, axis=0, **equal))
        scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = b.node("Mul", scores, b.constant(np.float32((dims // heads) ** -0.5)))
        y = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
        y = b.node("Reshape", b.node("Transpose", y, perm=[0, 2, 1, 3]), b.ints(0, tokens, dims))
        x = b.node("Add", x, b.dense(y, dims, dims))
        y = b.dense(gelu(b.dense(norm(x), dims, 2 * dims)), 2 * dims, dims)
        x = norm(b.node("Add", x, y))
        x = b.node("Gather", x, b.constant(np.int64(0)), axis=1)
        return b.model(b.node("Gemm", x, b.weights(dims, 10), b.vector(10)))
    return make


def activations():
    """PRelu, other activation functions, normalisations and reductions between convolutions."""
    b = Builder((6, 12, 12), 17)
    slopes = b.constant(b.random.uniform(0.05, 0.4, (12, 1, 1)).astype(np.float32))
    x = b.node("PRelu", b.conv("x", 6, 12), slopes)
    x = b.node("Elu", b.conv(x, 12, 12), alpha=0.7)
    x = b.node("InstanceNormalization", b.conv(x, 12, 12), b.vector(12, 1), b.vector(12))
    x = b.node("Softplus", b.conv(x, 12, 12))
    x = b.conv(b.node("LRN", x, size=5, alpha=0.1), 12, 12)
    x = b.node("Where", b.node("Greater", x, b.constant(np.float32(0.2))), x,
               b.node("Abs", b.node("Selu", x)))
    x = b.conv(b.node("Max", b.node("Neg", x), b.node("Softsign", x)), 12, 16)
    x = b.conv(b.node("Tile", b.node("GlobalMaxPool", x), b.ints(1, 1, 4, 4)), 16, 16)
    x = b.node("ReduceL2", b.node("Relu", x), axes=[2, 3], keepdims=0)
    y = b.node("Gemm", x, b.weights(16, 10), b.vector(10))
    return b.model(b.node("LogSoftmax", y, axis=1))


def dense_layers():
    """What ONNX Runtime multiplies with dequantized weights of 4 bits itself (MatMulNBits); 250 is no
    multiple of a block."""
    b = Builder((8, 250), 13)
    return b.model(b.dense(b.node("Relu", b.dense("x", 250, 512)), 512, 64))


NETWORKS = {"split_shuffle": (split_shuffle, (8, 16, 16)), "decoder": (decoder, (6, 16, 16)),
            "activations": (activations, (6, 12, 12)),
            "transformer13": (transformer(13), (3, 16, 16)),
            "transformer20": (transformer(20), (3, 16, 16)),
            "opset_21": (opset_21, (3, 16, 16)), "dense_layers": (dense_layers, (8, 250))}


def write(name, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    onnx.save(NETWORKS[name][0](), path)


def samples(name):
    """Smooth noise with a mean of its own in each channel."""
    def draw(_root, most):
        shape = NETWORKS[name][1]
        random = np.random.default_rng(11)
        mean = random.normal(0, 0.5, (1, shape[0]) + (1,) * (len(shape) - 1))
        x = random.normal(0, 1, (2 * (most or 500), *shape)) + mean
        x = ((x + np.roll(x, 1, -1)) / 2).astype(np.float32)
        return x[:len(x) // 2], x[len(x) // 2:], None, 100
    return draw
