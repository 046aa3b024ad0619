"""The networks of the interoperability check: model, preprocessing, calibration and evaluation
samples that do not overlap, labels where there are any."""
import csv
import gzip
import os
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

import made

FASHION = "/usr/share/datasets/fashion-mnist"
CALIBRATION_MOST = 500


@dataclass
class Network:
    name: str
    model: str
    calibration: np.ndarray
    evaluation: np.ndarray
    labels: np.ndarray | None   # class index of each evaluation sample
    batch: int                  # samples a call of ONNX Runtime (fixed-batch models: 1)


def data_folder(root):
    return os.path.normpath(f"{root}/../shared/data")


def read_idx(path):
    """A gzipped IDX file of bytes: two zeros, type, rank, big-endian sizes, data."""
    with gzip.open(path) as f:
        raw = f.read()
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def scaled(x, mean=0.0, std=1.0):
    """(x - mean) / std in f32; mean and std are numbers or one per channel of NCHW."""
    mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))
    return np.ascontiguousarray((x.astype(np.float32) - mean) / std, np.float32)


def fashion(root, most):
    n_cal, n_eval = (most, most) if most else (CALIBRATION_MOST, None)
    x = read_idx(f"{FASHION}/train-images-idx3-ubyte.gz")[:n_cal, None]
    y = read_idx(f"{FASHION}/t10k-images-idx3-ubyte.gz")[:n_eval, None]
    labels = read_idx(f"{FASHION}/t10k-labels-idx1-ubyte.gz")[:n_eval]
    return scaled(x, std=255), scaled(y, std=255), labels, 100


def cifar(prepare):
    def samples(root, most):
        sets = f"{data_folder(root)}/sets/cifar10"
        n_cal, n_eval = (most, most) if most else (CALIBRATION_MOST, None)
        x = read_idx(f"{sets}_train4k_lossless-images-idx4-ubyte.gz")[:n_cal]
        y = read_idx(f"{sets}_test10k_jpeg-images-idx4-ubyte.gz")[:n_eval]
        labels = read_idx(f"{sets}_test10k_jpeg-labels-idx1-ubyte.gz")[:n_eval]
        return prepare(x), prepare(y), labels, 100
    return samples


def photograph(path, resize, crop):
    image = Image.open(path).convert("RGB")
    if resize:
        image = image.resize(resize, Image.BICUBIC)
    if crop:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)


def photographs(prepare, resize=None, crop=None, labelled=False):
    """Every fifth photograph calibrates, the others evaluate."""
    def samples(root, most):
        folder = f"{data_folder(root)}/imagenet-sample"
        with open(f"{folder}/labels.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        calibration = rows[::5][:most]
        evaluation = [r for k, r in enumerate(rows) if k % 5][:most]
        x, y = (prepare(np.stack([photograph(f"{folder}/{r['file']}", resize, crop)
                                  for r in part])) for part in (calibration, evaluation))
        labels = np.array([int(r["class_index"]) for r in evaluation]) if labelled else None
        return x, y, labels, 1
    return samples


def keyword(root, most):
    """One recorded MFCC picture, repeated with noise of a twentieth of its deviation."""
    path = f"{data_folder(root)}/golden/kws_dscnn/test_data_set_0/input_0.pb"
    with open(path, "rb") as f:
        x = numpy_helper.to_array(onnx.TensorProto.FromString(f.read()))[:1]
    count = most or CALIBRATION_MOST
    noise = np.random.default_rng(1).normal(0, 0.05 * x.std(), (2 * count,) + x.shape[1:])
    y = (x + noise).astype(np.float32)
    return y[:count], y[count:], None, 100


def normalized(x):
    return scaled(scaled(x, std=255), (.485, .456, .406), (.229, .224, .225))


def centred(std):
    return lambda x: scaled(x, 127, std)


LOADERS = {
    "fashion_mnist": fashion,
    "resnet8_cifar10": cifar(scaled),
    "resnet20_cifar10": cifar(normalized),
    "squeezenet10_dc_imagenet": photographs(
        lambda x: scaled(x[:, ::-1], (104, 117, 123)), crop=227, labelled=True),
    "mobilenetv1_025_vww": photographs(lambda x: scaled(x, std=255), resize=(96, 96)),
    "ultraface_rfb320": photographs(centred(128), resize=(320, 240)),
    "efficientnet_lite0": photographs(centred(128), crop=224, labelled=True),
    "kws_dscnn": keyword,
    "resnet8_int8qdq": cifar(scaled),
    "vww_int8qdq": photographs(lambda x: scaled(x, std=255), resize=(96, 96)),
}
TRAINED = tuple(LOADERS)  # those of ../shared and the example; the others are for the check alone
LOADERS |= {name: made.samples(name) for name in made.NETWORKS}
# Quantized by their makers, activations s8: the artifact has to be the same network.
QUANTIZED = {"resnet8_int8qdq", "vww_int8qdq"}


def model_path(root, name):
    if name in made.NETWORKS:
        return f"{root}/build/made/{name}.onnx"
    if name == "fashion_mnist":
        return f"{root}/examples/fashion-mnist/model.onnx"
    return f"{data_folder(root)}/golden/{name}/model.onnx"


def present(root, name):
    """Without Debian's data set or the example the check fails; the trained others are optional."""
    return (name == "fashion_mnist" or name in made.NETWORKS
            or os.path.isfile(model_path(root, name)))


def load(root, name, most):
    """`most` bounds both the calibration and the evaluation samples; None is the whole split."""
    if name in made.NETWORKS:
        made.write(name, model_path(root, name))
    return Network(name, model_path(root, name), *LOADERS[name](root, most))
