"""Networks for benchmarks, as published but with random weights: ResNet-18 and MobileNetV2 1.0 for
3x224x224 images, and chains of quantized 3x3 convolutions. Time does not depend on the weights."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 13, 8


class Builder:
    """Appends nodes; every method takes and returns the name of a tensor."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, inputs, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weights(self, shape):
        """He's initialization: what follows a Relu keeps its variance."""
        deviation = np.sqrt(2.0 / np.prod(shape[1:]))
        return self.rng.normal(0, deviation, shape).astype(np.float32)

    def conv_bn(self, x, channels, outputs, kernel, stride=1, group=1):
        weights = self.constant(self.weights((outputs, channels // group, kernel, kernel)))
        x = self.add("Conv", [x, weights], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                     pads=[kernel // 2] * 4, group=group)
        gamma, variance = (self.rng.uniform(0.9, 1.1, outputs) for _ in range(2))
        beta, mean = (self.rng.normal(0, 0.1, outputs) for _ in range(2))
        constants = [self.constant(a.astype(np.float32)) for a in (gamma, beta, mean, variance)]
        return self.add("BatchNormalization", [x, *constants])

    def relu(self, x):
        return self.add("Relu", [x])

    def relu6(self, x):
        lo, hi = (self.constant(np.float32(v)) for v in (0, 6))
        return self.add("Clip", [x, lo, hi])

    def classifier(self, x, channels, classes=1000):
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x])], axis=1)
        weights, bias = self.weights((classes, channels)), np.zeros(classes, np.float32)
        return self.add("Gemm", [x, self.constant(weights), self.constant(bias)], transB=1)

    def model(self, name, x, in_shape, out_shape):
        self.nodes[-1].output[0] = "y"
        assert x == self.nodes[-1].name
        graph = helper.make_graph(
            self.nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, in_shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  producer_name="make_networks")
        model.ir_version = IR
        onnx.checker.check_model(model)
        return model


def resnet18():
    """He et al. 2016, table 1: 3.63 GFLOP."""
    b = Builder(18)
    x = b.relu(b.conv_bn("x", 3, 64, 7, 2))
    x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for outputs in 64, 128, 256, 512:
        for block in range(2):
            stride = 2 if block == 0 and outputs > 64 else 1
            y = b.relu(b.conv_bn(x, channels, outputs, 3, stride))
            y = b.conv_bn(y, outputs, outputs, 3)
            if stride != 1:
                x = b.conv_bn(x, channels, outputs, 1, stride)
            x = b.relu(b.add("Add", [y, x]))
            channels = outputs
    return b.model("resnet18", b.classifier(x, 512), [1, 3, 224, 224], [1, 1000])


def mobilenetv2():
    """Sandler et al. 2018, table 2, width 1: 0.60 GFLOP."""
    b = Builder(2)
    x = b.relu6(b.conv_bn("x", 3, 32, 3, 2))
    channels = 32
    for expand, outputs, repeat, first_stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)):
        for block in range(repeat):
            stride, wide = first_stride if block == 0 else 1, expand * channels
            y = x if expand == 1 else b.relu6(b.conv_bn(x, channels, wide, 1))
            y = b.relu6(b.conv_bn(y, wide, wide, 3, stride, wide))
            y = b.conv_bn(y, wide, outputs, 1)
            x = b.add("Add", [y, x]) if stride == 1 and channels == outputs else y
            channels = outputs
    x = b.relu6(b.conv_bn(x, channels, 1280, 1))
    return b.model("mobilenetv2", b.classifier(x, 1280), [1, 3, 224, 224], [1, 1000])


def conv_chain(channels, size, length):
    """`length` quantized 3x3 convolutions with Relu, one behind the other."""
    b = Builder(channels)
    step = 4.0 / 255
    scale = b.constant(np.float32(step))
    zero = b.constant(np.uint8(0))
    x = b.add("QuantizeLinear", ["x", scale, zero])
    for _ in range(length):
        w = b.weights((channels, channels, 3, 3))
        w_scale = np.abs(w).max((1, 2, 3)) / 127
        codes = np.rint(w / w_scale[:, None, None, None]).astype(np.int8)
        scales, zeros = b.constant(w_scale), b.constant(np.zeros(channels, np.int8))
        w = b.add("DequantizeLinear", [b.constant(codes), scales, zeros], axis=0)
        bias = b.add("DequantizeLinear", [
            b.constant(np.zeros(channels, np.int32)),
            b.constant((w_scale * np.float32(step)).astype(np.float32)),
            b.constant(np.zeros(channels, np.int32))], axis=0)
        x = b.add("DequantizeLinear", [x, scale, zero])
        x = b.add("Conv", [x, w, bias], kernel_shape=[3, 3], pads=[1] * 4)
        x = b.add("QuantizeLinear", [x, scale, zero])  # the zero point is the Relu
    x = b.add("DequantizeLinear", [x, scale, zero])
    return b.model(f"conv{channels}x{length}", x, [1, channels, size, size],
                   [1, channels, size, size])
