"""The binary layouts of taosAdapter's WebSocket protocol. Everything is little-endian.

A column in memory is a numpy array of its type's dtype, masked where it is NULL; text and bytes are lists with None.
"""

import struct

import numpy as np

from .types import BOOL, BY_NUMBER, FLOAT, NCHAR, TIMESTAMP, VARBINARY, TDengineError

BIND, QUERY, FETCH, FETCH_RAW_DATA, STMT2_BIND = 2, 6, 7, 8, 9  # action numbers at offset 16 of a binary request


def malformed(what):
    return TDengineError(0xFFFF, f"malformed message: {what}")


def request_head(message):
    """(req_id, statement or result id, action) of a binary request."""
    if len(message) < 24:
        raise TDengineError(0xFFFF, "message length is too short")
    return struct.unpack_from("<QQQ", message)


def query_text(message):
    """The SQL of a QUERY request."""
    if len(message) < 31:
        raise TDengineError(0xFFFF, "message length is too short")
    (length,) = struct.unpack_from("<I", message, 26)
    if length > len(message) - 30:
        raise malformed("SQL is shorter than its length says")
    try:
        return message[30 : 30 + length].decode()
    except UnicodeDecodeError:
        raise malformed("SQL is not UTF-8") from None


def fetch_reply(req_id, result_id, timing, block=None, error=None):
    """The reply to a FETCH: a raw block, or the end of the data, or an error."""
    code, text = (error.code, error.message.encode()) if error else (0, b"")
    head = struct.pack("<QQHQQII", 2**64 - 1, FETCH, 1, timing, req_id, code, len(text)) + text
    head += struct.pack("<QB", result_id, block is None)
    return head if block is None else head + struct.pack("<I", len(block)) + block


def encode_block(columns, arrays, version=1):
    """A raw data block of these columns (Column, array or list each) with the trailing byte."""
    rows = len(arrays[0])
    schema, lengths, data = [], [], []
    for column, array in zip(columns, arrays, strict=True):
        schema.append(struct.pack("<bi", column.type.number, column.width))
        if column.type.width:
            values = np.ascontiguousarray(np.ma.getdata(array), column.type.dtype)
            mask = np.ma.getmaskarray(array)
            if mask.any():
                values = np.where(mask, np.zeros(1, values.dtype), values)
            data += [np.packbits(mask).tobytes(), values.tobytes()]
            lengths.append(values.nbytes)
        else:
            offsets, payload = encode_texts(column.type, array)
            data += [offsets, payload]
            lengths.append(len(payload))
    body = b"".join((*schema, struct.pack(f"<{len(lengths)}i", *lengths), *data, b"\0"))
    return struct.pack("<iiiiIQ", version, 28 + len(body), rows, len(columns), 0x80000000, 0) + body


def encode_texts(type, values):
    """(offsets, payload) of a column of variable length; values repeat a lot, so each is encoded once."""
    encoded, parts, offsets, at = {None: None}, [], [], 0
    for value in values:
        if value not in encoded:
            payload = bytes(value) if type is VARBINARY else value.encode("utf-32-le" if type is NCHAR else "utf-8")
            encoded[value] = struct.pack("<H", len(payload)) + payload
        part = encoded[value]
        if part is None:
            offsets.append(-1)
        else:
            offsets.append(at)
            parts.append(part)
            at += len(part)
    return struct.pack(f"<{len(offsets)}i", *offsets), b"".join(parts)


def decode_v1_bind(message, columns):
    """The arrays of a BIND request, interpreted by the table's columns, as TDengine does."""
    block = message[24:]
    if len(block) < 28:
        raise malformed("no data block")
    _, _, rows, count = struct.unpack_from("<iiii", block)
    if count != len(columns):
        raise TDengineError(0xFFFF, "stmt column count not match")
    if rows < 0 or rows > len(block):
        raise malformed("number of rows")
    at = 28 + 5 * count
    if len(block) < at + 4 * count:
        raise malformed("block header")
    lengths = struct.unpack_from(f"<{count}i", block, at)
    at += 4 * count
    arrays = []
    for column, length in zip(columns, lengths, strict=True):
        head = 4 * rows if column.type.width == 0 else (rows + 7) // 8
        if length < 0 or at + head + length > len(block) or (column.type.width and length != rows * column.type.width):
            raise malformed(f"length of column {column.name}")
        if column.type.width:
            mask = np.unpackbits(np.frombuffer(block, np.uint8, head, at), count=rows).astype(bool)
            values = np.frombuffer(block, wire_dtype(column.type), rows, at + head).astype(
                column.type.dtype, copy=False
            )
            arrays.append(np.ma.masked_array(values, mask) if mask.any() else values)
        else:
            offsets = struct.unpack_from(f"<{rows}i", block, at)
            arrays.append(decode_var_values(column, block[at + head : at + head + length], offsets))
        at += head + length
    return arrays


def wire_dtype(type):
    """BOOL travels as a byte that may hold anything."""
    return np.uint8 if type is BOOL else np.dtype(type.dtype).newbyteorder("<")


def decode_var_values(column, payload, offsets):
    values = []
    for offset in offsets:
        if offset == -1:
            values.append(None)
            continue
        if offset < 0 or offset + 2 > len(payload):
            raise malformed(f"offset in column {column.name}")
        end = offset + 2 + int.from_bytes(payload[offset : offset + 2], "little")
        if end > len(payload):
            raise malformed(f"length in column {column.name}")
        values.append(decode_text(column, payload[offset + 2 : end], "utf-32-le"))
    return values


def decode_text(column, payload, nchar_encoding):
    if column.type is VARBINARY:
        return payload
    try:
        return payload.decode(nchar_encoding if column.type is NCHAR else "utf-8")
    except UnicodeDecodeError:
        raise malformed(f"text in column {column.name}") from None


def decode_stmt2_bind(message, tags, columns):
    """[(table name or None, tag values or None, arrays)] of a STMT2_BIND request; tags, columns: Columns of its `?`."""
    part = message[30:]
    if len(part) < 28:
        raise malformed("bind header")
    total, tables, tag_count, column_count, names_at, tags_at, columns_at = struct.unpack_from("<Iiii3I", part)
    if total != len(part) or tables < 1 or tables > len(part):
        raise malformed("bind header")
    if tags_at and tag_count != len(tags) or columns_at and column_count != len(columns):
        raise TDengineError(0xFFFF, "stmt column count not match")
    names = decode_names(part, names_at, tables) if names_at else [None] * tables
    tag_values = [None] * tables
    if tags_at:
        sections = split_sections(part, tags_at, tables)
        tag_values = [
            [array_to_list(array)[0] for array in decode_vectors(section, tags, rows=1)] for section in sections
        ]
    arrays = [decode_vectors(section, columns) for section in split_sections(part, columns_at, tables)]
    return list(zip(names, tag_values, arrays, strict=True))


def decode_names(part, at, tables):
    if at + 2 * tables > len(part):
        raise malformed("table names")
    lengths = struct.unpack_from(f"<{tables}H", part, at)
    at += 2 * tables
    names = []
    for length in lengths:
        if length < 1 or at + length > len(part):
            raise malformed("table name")
        try:
            names.append(part[at : at + length - 1].decode())
        except UnicodeDecodeError:
            raise malformed("table name") from None
        at += length
    return names


def split_sections(part, at, tables):
    if at < 28 or at + 4 * tables > len(part):
        raise malformed("section offset")
    lengths = struct.unpack_from(f"<{tables}I", part, at)
    at += 4 * tables
    sections = []
    for length in lengths:
        if at + length > len(part):
            raise malformed("section length")
        sections.append(part[at : at + length])
        at += length
    return sections


def decode_vectors(section, columns, rows=None):
    """One array a column; all must have the same number of values."""
    at, arrays = 0, []
    for column in columns:
        if at + 13 > len(section):
            raise malformed(f"value vector of {column.name}")
        total, number, count = struct.unpack_from("<III", section, at)
        if total < 17 + count or at + total > len(section) or number not in BY_NUMBER:
            raise malformed(f"value vector of {column.name}")
        if rows is None:
            rows = count
        if count != rows:
            raise TDengineError(0x0200, "row number in each bind param should be the same")
        arrays.append(decode_vector(section[at : at + total], number, count, column))
        at += total
    return arrays


def decode_vector(vector, number, count, column):
    """The values of one vector as an array of the column's type."""
    type, at = BY_NUMBER[number], 12
    mask = np.frombuffer(vector, np.uint8, count, at) != 0
    at += count
    has_lengths = vector[at]
    at += 1
    if at + (4 * count if has_lengths else 0) + 4 > len(vector) or bool(has_lengths) != (type.width == 0):
        raise malformed(f"value vector of {column.name}")
    lengths = struct.unpack_from(f"<{count}i", vector, at) if has_lengths else ()
    at += 4 * len(lengths)
    (size,) = struct.unpack_from("<I", vector, at)
    buffer = vector[at + 4 :]
    if size != len(buffer):
        raise malformed(f"buffer of {column.name}")
    all_null = bool(mask.all())
    if type.width:
        if not fits(type, column.type):
            raise TDengineError(0x0200, "Invalid operation")
        if all_null and not size:
            return np.ma.masked_all(count, column.type.dtype)
        if size != count * type.width:
            raise malformed(f"buffer of {column.name}")
        values = np.frombuffer(buffer, wire_dtype(type)).astype(column.type.dtype, copy=False)
        return np.ma.masked_array(values, mask) if mask.any() else values
    if column.type.width:
        raise TDengineError(0x0200, "Invalid operation")
    return decode_lengths(buffer, lengths, mask.tolist(), column)


def fits(bound, declared):
    """Whether a vector of one fixed type may be bound to a column of another: the same width, and a number is a number.

    TDengine takes the bits as they are: -5 bound as INT to an INT UNSIGNED column is stored as 4294967291.
    """
    if declared.width == 0 or bound.width != declared.width:
        return False
    return bound is declared or FLOAT not in (bound, declared) and TIMESTAMP not in (bound, declared)


def decode_lengths(buffer, lengths, mask, column):
    values, at = [], 0
    whole = buffer.decode("ascii") if buffer.isascii() and column.type is not VARBINARY else None
    for length, is_null in zip(lengths, mask, strict=True):
        if is_null:
            values.append(None)
            continue
        end = at + length
        if length < 0 or end > len(buffer):
            raise malformed(f"lengths of {column.name}")
        values.append(whole[at:end] if whole is not None else decode_text(column, buffer[at:end], "utf-8"))
        at = end
    return values


def array_to_list(array):
    """Python values of an array, None for NULL."""
    return array if isinstance(array, list) else array.tolist()


# Data subscription


def varint(n):
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def zigzag(n):
    return varint(2 * n if n >= 0 else -2 * n - 1)


def encode_message(blocks, precision):
    """What a consumer fetches: the blocks, (columns, arrays) each, with their columns' names."""
    head = struct.pack("<BIBqBq", 100, 18, 0x11, 0, 0x11, 0)  # log positions, which the client doesn't read
    parts = [head, struct.pack("<iBB", len(blocks), 0, 1)]
    for columns, arrays in blocks:
        raw = encode_block(columns, arrays, version=2)
        parts.append(varint(18 + len(raw)))
        parts.append(struct.pack("<q", 1) + struct.pack(">q", len(arrays[0])) + bytes([0, precision]) + raw)
        parts.append(zigzag(len(columns)) + zigzag(0))
        for k, column in enumerate(columns, 1):
            name = column.name.encode() + b"\0"
            parts.append(bytes([column.type.number, 0]) + zigzag(column.width) + zigzag(k) + varint(len(name)) + name)
    return b"".join((*parts, bytes(8)))


def raw_data_reply(req_id, message_id, timing, message, error=None):
    """The reply to fetch_raw_data: a message of encode_message(), or an error."""
    code, text = (error.code, error.message.encode()) if error else (0, b"")
    head = struct.pack("<QQHQQII", 2**64 - 1, FETCH_RAW_DATA, 1, timing, req_id, code, len(text)) + text
    head += struct.pack("<Q", message_id)
    return head if error else head + struct.pack("<HI", 2, len(message)) + message
