#!/usr/bin/env python3
"""Writes the seeds of the data targets (npy, idx, archive, image, labels,
statistics) into tests/fuzz/corpus/.

Python's standard library alone; the same bytes at every run."""
import gzip
import io
import pathlib
import struct
import tarfile
import zipfile
import zlib

ROOT = pathlib.Path(__file__).parent / "corpus"


def npy(descr, shape, data, order="False", version=1):
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def idx(kind, dims, data):
    return bytes([0, 0, kind, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + data


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(
        ">I", zlib.crc32(name + data))


def png(width, height, colour, depth, row_bytes, extra=b""):
    rows = b"".join(b"\0" + bytes((y * 31 + x * 7) & 255 for x in range(row_bytes))
                    for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) +
            extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_zip(members, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            z.writestr(info, data)
    return out.getvalue()


def make_tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue().rstrip(b"\0") + bytes(1024)


def exact(x):
    """A sum in units of 2^-48."""
    return int(x * 2**48).to_bytes(16, "little", signed=True)


def tensor_statistics(name, values, exponent, n_bins, channels=0, version=2, table=True):
    lo, hi, n = min(values), max(values), len(values)
    sums = exact(sum(values)) + exact(sum(v * v for v in values))
    first = int(lo // 2.0**exponent)
    counts = [0] * n_bins
    for v in values:
        counts[int(v // 2.0**exponent) - first] += 1
    channel = sums + struct.pack("<Qf", sum(v != 0 for v in values), max(abs(lo), abs(hi)))
    distinct = sorted(set(values)) if table else []
    entries = b"".join(struct.pack("<fB", v, values.count(v)) for v in distinct)
    return (struct.pack("<H", len(name)) + name + struct.pack("<ddQ", lo, hi, n) + sums +
            struct.pack("<I", channels) + channel * channels +
            struct.pack("<IIf", 1, 1, lo) + struct.pack("<IIf", 1, 1, hi) +
            struct.pack("<iiI", exponent, first, n_bins) + bytes(counts) +
            (struct.pack("<I", len(distinct)) + entries if version > 1 else b""))


def statistics(samples, tensors, version=2):
    return (b"quantd statistics %d\n" % version + bytes(32) +
            struct.pack("<QI", samples, len(tensors)) + b"".join(tensors) +
            struct.pack("<I", 0))


def main():
    rgb = png(3, 2, 2, 8, 9)
    a = npy("|u1", "(2, 1, 2, 3)", bytes(range(12)))
    sample = npy("<f4", "(1, 2, 3)", struct.pack("<6f", *range(6)))
    pair = [("b.png", rgb), ("a.png", rgb)]
    seeds = {
        "npy": {
            "u1": a,
            "f4": sample,
            "f2_v2": npy("<f2", "(2,)", b"\0\x3c\x01\0", version=2),
            "big_v3": npy(">i8", "(1,)", b"\0\0\0\0\0\0\0\x07", version=3),
            "scalar": npy("<f8", "()", bytes(8)),
            "fortran": npy("<f4", "(2, 3)", bytes(24), order="True"),
            "object": npy("|O", "(2,)", b"\x80\x04N."),
            "overflow": npy("<f4", "(4294967296, 4294967296)", b""),
            "empty": b"",
        },
        "idx": {
            "u8": idx(8, [2, 2, 3], bytes(12)),
            "f64": idx(14, [1], struct.pack(">d", 1.5)),
            "s16": idx(11, [2], b"\xff\xfe\0\1"),
            "overflow": idx(8, [0xffffffff] * 4, b""),
            "short": idx(8, [5], b"\1"),
        },
        "archive": {
            "npz_stored": make_zip([("x.npy", a), ("labels.npy", npy("|u1", "(2,)", b"\1\2"))],
                                   zipfile.ZIP_STORED),
            "npz_deflated": make_zip([("x.npy", a)], zipfile.ZIP_DEFLATED),
            "zip_png": make_zip(pair, zipfile.ZIP_DEFLATED),
            "tar_png": make_tar(pair),
            "tar_npy": make_tar([("../a", sample), ("b", sample)]),
            "tar_gz": gzip.compress(make_tar([("a", rgb)]), mtime=0),
            "idx_gz": gzip.compress(idx(8, [2, 1, 2, 3], bytes(12)), mtime=0),
            "npy": a,
            "png": rgb,
        },
        # The first byte is the number of samples.
        "labels": {
            "npy_u1": b"\3" + npy("|u1", "(3,)", b"\0\1\2"),
            "npy_column": b"\2" + npy("<i8", "(2, 1)", struct.pack("<2q", 7, -1)),
            "npy_large": b"\1" + npy("<u4", "(1,)", b"\xff\xff\xff\xff"),
            "npy_real": b"\1" + npy("<f4", "(1,)", bytes(4)),
            "idx": b"\4" + idx(8, [4], b"\0\1\2\3"),
            "idx_gz": b"\4" + gzip.compress(idx(8, [4], b"\0\1\2\3"), mtime=0),
            "short": b"\5" + idx(8, [5], b"\1"),
        },
        "statistics": {
            "none": statistics(1, []),
            "zeros": statistics(2, [tensor_statistics(b"a", [0.0] * 6, -126, 1, 1)]),
            "ranges": statistics(3, [tensor_statistics(b"x", [-2.0, 1.0, 2.0], -11, 8193, 1),
                                     tensor_statistics(b"y", [0.0] * 3, -126, 1)]),
            "no_table": statistics(2, [tensor_statistics(b"a", [-0.5, 0.25, 0.25, 1.0], -13,
                                                         12289, 2, table=False)]),
            "version_1": statistics(2, [tensor_statistics(b"a", [0.0] * 6, -126, 1, 1, version=1)],
                                    version=1),
            "version_3": statistics(1, [], version=3),
        },
        "image": {
            "rgb": rgb,
            "grey": png(5, 3, 0, 8, 5),
            "grey16": png(2, 2, 0, 16, 4),
            "grey1": png(9, 2, 0, 1, 2),
            "rgba": png(2, 2, 6, 8, 8),
            "palette": png(2, 2, 3, 8, 2, chunk(b"PLTE", bytes(range(256)) * 3)),
            "huge": png(100000, 1, 0, 8, 1),
        },
    }
    for target, files in seeds.items():
        folder = ROOT / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
