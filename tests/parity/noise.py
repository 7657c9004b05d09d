"""The program's noise, computed again: ChaCha8 keyed by seed, step and draw, then Box and Muller."""

import numpy
import torch


def chacha8(seed, step, draw, count):
    """The first `count` 64-bit words of ChaCha8 with the key (seed, step, draw, 0) and no nonce."""
    blocks = -(-count // 8)
    key = numpy.array([seed, step, draw, 0], dtype="<u8").view("<u4")
    counter = numpy.arange(blocks, dtype="<u8").view("<u4").reshape(blocks, 2).T
    start = numpy.zeros((16, blocks), dtype=numpy.uint32)
    start[:4] = numpy.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
    start[4:12] = key[:, None]
    start[12:14] = counter
    state = start.copy()
    for _ in range(4):
        for i in range(4):
            quarter_round(state, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter_round(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return numpy.ascontiguousarray((state + start).T).view("<u8").ravel()[:count]


def quarter_round(state, a, b, c, d):
    for to, by, turned, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[to] += state[by]
        word = state[turned] ^ state[to]
        state[turned] = (word << numpy.uint32(bits)) | (word >> numpy.uint32(32 - bits))


def normals(seed, step, draw, shape):
    """N(0, 1) in f32, as src/numbers/stream.rs draws it."""
    count = int(numpy.prod(shape))
    words = chacha8(seed, step, draw, 2 * -(-count // 2)) >> numpy.uint64(11)
    uniform = (words.astype(numpy.float64) + 1) / 2.0**53
    radius, angle = numpy.sqrt(-2 * numpy.log(uniform[0::2])), 2 * numpy.pi * uniform[1::2]
    pairs = numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], axis=1)
    return torch.from_numpy(pairs.ravel()[:count].astype(numpy.float32).reshape(shape))
