"""Engines that take turns: quantd's (a process driven over a pipe), ONNX Runtime and OpenVINO.

All run on one thread, pinned to one core, on samples of batch 1. A time is the shortest run's CPU
time: other programs on the machine do not count. Turns are short and alternate, so that clock and
caches are the same for all; they end when nobody has become faster for a while.
"""
import os
import subprocess
import time

import numpy as np
import onnxruntime as ort

try:
    import openvino
except ImportError:
    openvino = None

TURN = 0.08           # s of CPU a turn
TURNS_LEAST, TURNS_MOST, TURNS_STILL = 6, 40, 5
STILL = 0.997         # a turn that is less than 0.3 % better changes nothing


class Ours:
    """bench_network: load and run networks."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"bench_network {line}: {answer.strip() or 'no answer'}")
        return answer.split()

    def engine(self, kind, path, isa="avx512"):
        """isa: the highest to use."""
        self.ask(f"isa {isa}")
        number = self.ask(f"load {kind} {path}")[1]
        return lambda: float(self.ask(f"run {number} {TURN}")[0]) * 1e-6

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)


def repeated(once):
    """A turn of an engine of this process: the shortest of its runs."""
    def turn():
        best, spent = float("inf"), 0.0
        while spent < TURN:
            wall, cpu = time.perf_counter(), time.process_time()
            once()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best, spent = min(best, cpu, wall), spent + cpu
        return best
    return turn


def sample(shape):
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in shape]
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def onnx_runtime(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {i.name: sample(i.shape) for i in session.get_inputs()}
    return repeated(lambda: session.run(None, feed))


def open_vino(path):
    """f32 stays f32: without the hint the plugin takes bf16 where the CPU has it."""
    core = openvino.Core()
    model = core.read_model(path)
    for p in model.inputs:
        if p.partial_shape.is_dynamic:
            model.reshape({p: [d.get_length() if d.is_static else 1 for d in p.partial_shape]})
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False})
    request = compiled.create_infer_request()
    for p in compiled.inputs:
        request.set_tensor(p, openvino.Tensor(sample(list(p.shape))))
    return repeated(request.infer)


def take_turns(engines):
    """{name: turn} → {name: shortest seconds}."""
    best = {name: float("inf") for name in engines}
    still = 0
    for turn in range(TURNS_MOST):
        better = False
        for name, run in engines.items():
            seconds = run()
            better |= seconds < STILL * best[name]
            best[name] = min(best[name], seconds)
        still = 0 if better else still + 1
        if turn + 1 >= TURNS_LEAST and still >= TURNS_STILL:
            break
    return best


def pin():
    """To the last core that this process may use: the first often has the interrupts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    return allowed
