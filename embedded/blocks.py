"""TDengine's raw data blocks, and the messages to consumers that are made of them. Everything is little-endian."""

import struct

import numpy as np

from .types import BOOL, NCHAR


def encode_block(columns, values, version=1):
    """A raw data block, with the trailing byte, of these columns' values: a sequence each, None for NULL."""
    rows = len(values[0])
    schema, lengths, data = [], [], []
    for column, of_column in zip(columns, values, strict=True):
        schema.append(struct.pack("<bi", column.type.number, column.width))
        head, payload = (encode_fixed if column.type.width else encode_varying)(column, of_column)
        data += [head, payload]
        lengths.append(len(payload))
    body = b"".join((*schema, struct.pack(f"<{len(lengths)}i", *lengths), *data, b"\0"))
    return struct.pack("<iiiiIQ", version, 28 + len(body), rows, len(columns), 0x80000000, 0) + body


def encode_fixed(column, values):
    """(bitmap of NULLs, values)"""
    mask = [value is None for value in values] if None in values else [False] * len(values)
    if column.is_decimal:
        digits = [0 if value is None else int(value.scaleb(column.scale)) for value in values]
        payload = b"".join(number.to_bytes(column.type.width, "little", signed=True) for number in digits)
    else:
        empty = False if column.type is BOOL else 0
        plain = [empty if value is None else value for value in values] if True in mask else values
        payload = np.array(plain, column.type.dtype).tobytes()
    return np.packbits(mask).tobytes(), payload


def encode_varying(column, values):
    """(offsets, payload); values repeat a lot, so each is encoded once."""
    encoded, parts, offsets, at = {None: None}, [], [], 0
    for value in values:
        if value not in encoded:
            payload = value.encode("utf-32-le") if column.type is NCHAR else value
            encoded[value] = struct.pack("<H", len(payload)) + payload
        part = encoded[value]
        offsets.append(-1 if part is None else at)
        if part is not None:
            parts.append(part)
            at += len(part)
    return struct.pack(f"<{len(offsets)}i", *offsets), b"".join(parts)


def varint(n):
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode_message_block(columns, values, precision):
    """A block of a message to a consumer, with its columns' names. Numbers of its schema are doubled (zigzag)."""
    raw = encode_block(columns, values, version=2)
    parts = [varint(18 + len(raw)), struct.pack("<q", 1), struct.pack(">q", len(values[0])), bytes([0, precision]), raw]
    parts.append(varint(2 * len(columns)) + varint(0))
    for k, column in enumerate(columns, 1):
        name = column.name.encode() + b"\0"
        parts += [bytes([column.type.number, 0]), varint(2 * column.width), varint(2 * k), varint(len(name)), name]
    return b"".join(parts)


def encode_message(blocks):
    """What a consumer fetches."""
    head = struct.pack("<BIBqBq", 100, 18, 0x11, 0, 0x11, 0)  # log positions, which the client doesn't read
    return b"".join((head, struct.pack("<iBB", len(blocks), 0, 1), *blocks, bytes(8)))
