"""One calibration by ONNX Runtime in a process of its own: bench_peer.py MODEL DATA.npy SAMPLES
MinMax|Percentile OUTPUT. Prints the seconds of quantize_static, without imports."""
import sys
import time

import numpy as np
import onnx
from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat,
                                      QuantType, quantize_static)


class Reader(CalibrationDataReader):
    def __init__(self, name, samples):
        self.feeds = iter([{name: samples[i:i + 1]} for i in range(len(samples))])

    def get_next(self):
        return next(self.feeds, None)


def main():
    model, data, count, method, output = sys.argv[1:]
    graph = onnx.load(model).graph
    constants = {i.name for i in graph.initializer}
    name = next(i.name for i in graph.input if i.name not in constants)
    reader = Reader(name, np.load(data, mmap_mode="r")[:int(count)])
    start = time.perf_counter()
    quantize_static(model, output, reader, quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod[method])
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
