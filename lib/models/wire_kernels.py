"""Compiled arithmetic of the wire's integer codecs: one scale per group, codes, and their packing into bits.

The kernels of groups hand a slice of one group to an inner loop that begins at 0: that is what the compiler turns into
vector instructions, and a message of 64 x 4096 passes each of them in some 40 microseconds. Packing gathers eight codes
in one word, one after another: at 150 microseconds it is half of all the time that a frame takes.
"""

import numpy as np
from numba import njit

BLOCK = 8  # codes that fill whole bytes at any width


@njit(cache=True)
def largest(values, group):
    """float32 [G]: the largest magnitude in each group of consecutive `values` (float32 [n])."""
    found = np.zeros(-(-len(values) // group), np.float32)
    bits, tops = values.view(np.uint32), found.view(np.uint32)  # magnitudes are ordered as their bits are
    for g in range(len(tops)):
        own = bits[g * group : (g + 1) * group]
        top = np.uint32(0)
        for i in range(len(own)):
            top = max(top, own[i] & np.uint32(0x7FFFFFFF))
        tops[g] = top
    return found


@njit(cache=True)
def quantised(values, scales, group):
    """int8 [n, padded with zeros to whole blocks]: `values` (float32 [n]) in steps of `scales` (float32 [G])."""
    codes = np.zeros(-(-len(values) // BLOCK) * BLOCK, np.int8)
    for g in range(len(scales)):
        own, into = values[g * group : (g + 1) * group], codes[g * group : (g + 1) * group]
        scale = scales[g] if scales[g] > 0 else np.float32(1)  # a group of zeros stays one
        for i in range(len(own)):
            into[i] = np.int8(np.int32(np.rint(own[i] / scale)))
    return codes


@njit(cache=True)
def dequantised(codes, scales, group):
    """float32 [n]: `codes` (int8 [n]) times the scale of their group."""
    values = np.empty(len(codes), np.float32)
    for g in range(len(scales)):
        own, into, scale = codes[g * group : (g + 1) * group], values[g * group : (g + 1) * group], scales[g]
        for i in range(len(own)):
            into[i] = np.float32(own[i]) * scale
    return values


@njit(cache=True)
def packed(codes, bits):
    """uint8 [blocks * bits]: the lowest `bits` bits of `codes` (int8 [blocks * 8]), lowest first, without gaps."""
    blocks, mask = codes.reshape(-1, BLOCK), np.uint64((1 << bits) - 1)
    out = np.empty((len(blocks), bits), np.uint8)
    for block in range(len(blocks)):
        word = np.uint64(0)
        for i in range(BLOCK):
            word |= (np.uint64(blocks[block, i]) & mask) << np.uint64(bits * i)
        for i in range(bits):
            out[block, i] = np.uint8(word >> np.uint64(8 * i))
    return out.ravel()


@njit(cache=True)
def unpacked(data, bits):
    """int8 [blocks * 8]: what `packed` was given, signs restored, of `data` (uint8 [blocks * bits])."""
    blocks, spare = data.reshape(-1, bits), np.int64(64 - bits)
    codes = np.empty((len(blocks), BLOCK), np.int8)
    for block in range(len(blocks)):
        word = np.uint64(0)
        for i in range(bits):
            word |= np.uint64(blocks[block, i]) << np.uint64(8 * i)
        for i in range(BLOCK):
            codes[block, i] = np.int8(np.int64(word << np.uint64(64 - bits * (i + 1))) >> spare)
    return codes.ravel()
