"""GGUF v3, as much of it as the demo model needs: a writer, and a reader for the checks."""
import struct

import numpy

ALIGNMENT = 32
F32, F16, Q8_0, Q6_K, BF16 = 0, 1, 8, 14, 30
Q6_K_BLOCK = [("low", "u1", (2, 2, 32)), ("high", "u1", (2, 1, 32)), ("scale", "i1", 16), ("super", "<f2")]
U32, I32, FLOAT, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
SCALAR_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?", U64: "<Q", 11: "<q",
                  12: "<d"}


def quantise_q8_0(values):
    """Blocks of 32: an f16 scale, then 32 signed bytes."""
    blocks = values.astype(numpy.float32).reshape(-1, 32)
    scale = numpy.abs(blocks).max(1) / 127
    inverse = numpy.divide(1, scale, out=numpy.zeros_like(scale), where=scale > 0)
    out = numpy.empty(len(blocks), dtype=[("scale", "<f2"), ("q", "i1", 32)])
    out["scale"], out["q"] = scale, numpy.rint(blocks * inverse[:, None])
    return out.tobytes()


def to_bf16(values):
    bits = values.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


ENCODERS = {F32: lambda v: v.astype("<f4").tobytes(), F16: lambda v: v.astype("<f2").tobytes(), Q8_0: quantise_q8_0,
            BF16: to_bf16}


def packed_string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def packed_value(kind, value):
    if kind == STRING:
        return packed_string(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(packed_value(inner, item) for item in items)
    return struct.pack(SCALAR_FORMATS[kind], value)


def padding(size):
    return b"\0" * (-size % ALIGNMENT)


def write(path, metadata, tensors):
    """metadata: name to (type, value); tensors: name to (type, numpy array), rows last as in NumPy."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for name, (kind, value) in metadata.items():
        head += packed_string(name) + struct.pack("<I", kind) + packed_value(kind, value)
    blobs, offset = [], 0
    for name, (kind, values) in tensors.items():
        shape = values.shape[::-1]
        head += packed_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        blob = ENCODERS[kind](values)
        blobs.append(blob + padding(len(blob)))
        offset += len(blobs[-1])
    with open(path, "wb") as file:
        file.write(head + padding(len(head)))
        file.writelines(blobs)


def expand_q6_k(blocks):
    """Blocks of 256: four low bits and two high bits of each value, 16 scales, and one f16 scale of those."""
    nibbles = numpy.concatenate([blocks["low"] & 15, blocks["low"] >> 4], axis=2)
    high = blocks["high"] >> numpy.array([0, 2, 4, 6], dtype="u1")[:, None] & 3
    values = (nibbles | high << 4).reshape(-1, 16, 16).astype(numpy.float32) - 32
    return values * (blocks["super"].astype(numpy.float32)[:, None] * blocks["scale"])[:, :, None]


class Reader:
    """Metadata and tensors (as f32) of a GGUF file with F32, F16, BF16, Q8_0 or Q6_K tensors."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = 0
        magic, version, tensors, pairs = self.unpack("<4sIQQ")
        if magic != b"GGUF" or version != 3:
            raise ValueError(f"{path}: not GGUF v3")
        self.metadata = {}
        for _ in range(pairs):
            name = self.string()
            self.metadata[name] = self.value(*self.unpack("<I"))
        self.infos = dict(self.info() for _ in range(tensors))
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        self.start = -(-self.at // alignment) * alignment

    def unpack(self, layout):
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self):
        (size,) = self.unpack("<Q")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.unpack("<IQ")
            return [self.value(inner) for _ in range(count)]
        return self.unpack(SCALAR_FORMATS[kind])[0]

    def info(self):
        name = self.string()
        (dimensions,) = self.unpack("<I")
        *shape, kind, offset = self.unpack(f"<{dimensions}QIQ")
        return name, (shape[::-1], kind, offset)

    def tensor(self, name):
        shape, kind, offset = self.infos[name]
        count, at = int(numpy.prod(shape)), self.start + offset
        if kind == F32:
            values = numpy.frombuffer(self.data, "<f4", count, at)
        elif kind == F16:
            values = numpy.frombuffer(self.data, "<f2", count, at)
        elif kind == BF16:
            values = (numpy.frombuffer(self.data, "<u2", count, at).astype(numpy.uint32) << 16).view(numpy.float32)
        elif kind == Q8_0:
            blocks = numpy.frombuffer(self.data, [("scale", "<f2"), ("q", "i1", 32)], count // 32, at)
            values = blocks["scale"].astype(numpy.float32)[:, None] * blocks["q"]
        elif kind == Q6_K:
            values = expand_q6_k(numpy.frombuffer(self.data, Q6_K_BLOCK, count // 256, at))
        else:
            raise ValueError(f"{name}: tensor type {kind} is not supported here")
        return values.astype(numpy.float32).reshape(shape)
