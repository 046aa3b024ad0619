#!/usr/bin/python3
"""Train the demo's network on Fashion-MNIST and write it as ONNX (opset 13).

Needs Debian's packages only:
    apt-get install --no-install-recommends python3-torch python3-onnx python3-numpy \
        dataset-fashion-mnist
    ./train.py                 # about ten minutes on one core, writes model.onnx

The network is small and has what a quantizer meets in practice: convolutions with unfolded
BatchNormalization, a depthwise block with ReLU6 (Clip), a residual block (Add), a strided
convolution, MaxPool, GlobalAveragePool, Flatten and Gemm. The graph is written node by node from
the weights, so that nothing is folded or renamed on the way and the names can be read.
"""
import argparse
import gzip
import time

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

DATA = "/usr/share/datasets/fashion-mnist"
# name: input channels, output channels, kernel, stride, groups
CONVS = {
    "stem/conv": (1, 16, 3, 1, 1),
    "separable1/depthwise": (16, 16, 3, 1, 16),
    "separable1/pointwise": (16, 32, 1, 1, 1),
    "residual/conv1": (32, 32, 3, 1, 1),
    "residual/conv2": (32, 32, 3, 1, 1),
    "down/conv": (32, 64, 3, 2, 1),
    "separable2/depthwise": (64, 64, 3, 1, 64),
    "separable2/pointwise": (64, 96, 1, 1, 1),
}
FEATURES, CLASSES = 96, 10


def read_idx(name):
    """One IDX file: two zero bytes, type, rank, big-endian sizes, data."""
    with gzip.open(f"{DATA}/{name}") as f:
        raw = f.read()
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def images(name):
    x = read_idx(name).astype(np.float32)[:, None] / np.float32(255)
    return torch.from_numpy(x)


def labels(name):
    return torch.from_numpy(read_idx(name).astype(np.int64))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.ModuleDict(), nn.ModuleDict()
        for name, (cin, cout, k, stride, groups) in CONVS.items():
            self.conv[name.replace("/", "_")] = nn.Conv2d(
                cin, cout, k, stride, padding=k // 2, groups=groups, bias=False)
            self.bn[name.replace("/", "_")] = nn.BatchNorm2d(cout)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def block(self, name, x):
        name = name.replace("/", "_")
        return self.bn[name](self.conv[name](x))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.block("stem/conv", x)), 2)
        x = F.relu6(self.block("separable1/depthwise", x))
        x = F.relu6(self.block("separable1/pointwise", x))
        y = F.relu(self.block("residual/conv1", x))
        x = F.relu(self.block("residual/conv2", y) + x)
        x = F.relu(self.block("down/conv", x))
        x = F.relu6(self.block("separable2/depthwise", x))
        x = F.relu6(self.block("separable2/pointwise", x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        hits = sum(int((net(x[i:i + 500]).argmax(1) == y[i:i + 500]).sum())
                   for i in range(0, len(x), 500))
    return hits / len(x)


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    x, y = images("train-images-idx3-ubyte.gz"), labels("train-labels-idx1-ubyte.gz")
    xt, yt = images("t10k-images-idx3-ubyte.gz"), labels("t10k-labels-idx1-ubyte.gz")
    net = Net().to(memory_format=torch.channels_last)
    steps = (len(x) // args.batch) * args.epochs
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True,
                                weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    start = time.time()
    for epoch in range(args.epochs):
        net.train()
        order = torch.randperm(len(x))
        for i in range(0, len(x) - args.batch + 1, args.batch):
            at = order[i:i + args.batch]
            xb = x[at]
            if torch.rand(1) < 0.5:
                xb = xb.flip(3)
            loss = F.cross_entropy(net(xb.to(memory_format=torch.channels_last)), y[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{args.epochs}: loss {float(loss):.4f}, test accuracy "
              f"{accuracy(net, xt, yt):.4f}, {time.time() - start:.0f} s", flush=True)
    return net.eval()


class Graph:
    """Collects nodes and weights; every method returns the name of the node's output."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, value):
        value = np.ascontiguousarray(value.detach().numpy() if torch.is_tensor(value) else value)
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op, name, inputs, output=None, **attributes):
        output = output or name + "/output"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def conv_bn(self, net, name, x):
        _, _, k, stride, groups = CONVS[name]
        conv, bn = net.conv[name.replace("/", "_")], net.bn[name.replace("/", "_")]
        y = self.add("Conv", name, [x, self.weight(name + "/weight", conv.weight)],
                     kernel_shape=[k, k], strides=[stride, stride], pads=[k // 2] * 4, group=groups)
        parts = [self.weight(f"{name}/bn/{part}", getattr(bn, attribute)) for part, attribute in
                 (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"),
                  ("variance", "running_var"))]
        return self.add("BatchNormalization", name + "/bn", [y] + parts, epsilon=bn.eps)

    def relu6(self, name, x):
        return self.add("Clip", name, [x, "zero", "six"])


def export(net):
    g = Graph()
    g.weight("zero", np.array(0, np.float32))
    g.weight("six", np.array(6, np.float32))
    x = g.add("Relu", "stem/relu", [g.conv_bn(net, "stem/conv", "image")])
    x = g.add("MaxPool", "stem/pool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = g.relu6("separable1/relu6_1", g.conv_bn(net, "separable1/depthwise", x))
    x = g.relu6("separable1/relu6_2", g.conv_bn(net, "separable1/pointwise", x))
    y = g.add("Relu", "residual/relu1", [g.conv_bn(net, "residual/conv1", x)])
    y = g.conv_bn(net, "residual/conv2", y)
    x = g.add("Relu", "residual/relu2", [g.add("Add", "residual/add", [y, x])])
    x = g.add("Relu", "down/relu", [g.conv_bn(net, "down/conv", x)])
    x = g.relu6("separable2/relu6_1", g.conv_bn(net, "separable2/depthwise", x))
    x = g.relu6("separable2/relu6_2", g.conv_bn(net, "separable2/pointwise", x))
    x = g.add("Flatten", "head/flatten", [g.add("GlobalAveragePool", "head/pool", [x])], axis=1)
    g.add("Gemm", "head/fc", [x, g.weight("head/fc/weight", net.fc.weight),
                              g.weight("head/fc/bias", net.fc.bias)], output="logits", transB=1)
    graph = helper.make_graph(
        g.nodes, "fashion_mnist",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])], g.weights)
    model = helper.make_model(graph, producer_name="quantd examples/fashion-mnist/train.py",
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="model.onnx")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="more are faster, other weights")
    args = parser.parse_args()
    model = export(train(args))
    onnx.save(model, args.output)
    print(f"{args.output}: {model.ByteSize()} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main()
