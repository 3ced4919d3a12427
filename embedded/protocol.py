"""The binary layouts of taosAdapter's requests and replies; those of results are in blocks.py. All is little-endian.

A column that was bound is a numpy array of its type's dtype, masked where it is NULL; a list for types of varying width
(bytes, str for NCHAR) and for DECIMAL (its digits as str).
"""

import itertools
import struct

import numpy as np

from .errors import FAILED, TDengineError
from .types import BOOL, BY_NUMBER, NCHAR

FETCH, FETCH_RAW_DATA = 7, 8  # action numbers at offset 16 of a binary request
ACTIONS = {6: "binary_query", FETCH: "fetch", 9: "stmt2_bind"}


def request(message):
    """(action, args) of a binary request."""
    if len(message) < 24:
        raise TDengineError(FAILED, "message length is too short")
    req_id, target, number = struct.unpack_from("<QQQ", message)
    action = ACTIONS.get(number, "")
    return action, {"req_id": req_id, "stmt_id" if action == "stmt2_bind" else "id": target, "message": message}


def query_text(message):
    """The SQL of a QUERY request."""
    length = int.from_bytes(message[26:30], "little")
    if not 0 < length <= len(message) - 30:
        raise TDengineError(FAILED, "message length is too short")
    return message[30 : 30 + length].decode(errors="surrogateescape")


def reply_head(req_id, action, error):
    code, text = (error.code, error.message.encode(errors="replace")) if error else (0, b"")
    return struct.pack("<QQHQQII", 2**64 - 1, action, 1, 0, req_id, code, len(text)) + text


def fetch_reply(req_id, result_id, block=None, error=None):
    """The reply to a FETCH: a raw block, or the end of the data, or an error."""
    head = reply_head(req_id, FETCH, error) + struct.pack("<QB", result_id, block is None)
    return head if block is None else head + struct.pack("<I", len(block)) + block


def raw_data_reply(req_id, message_id, message, error=None):
    """The reply to fetch_raw_data: a message of blocks.encode_message(), or an error."""
    head = reply_head(req_id, FETCH_RAW_DATA, error) + struct.pack("<Q", message_id)
    return head if error else head + struct.pack("<HI", 2, len(message)) + message


def decode_bind(message, tags, columns):
    """[(table name or None, tag values or None, arrays)] of a STMT2_BIND request; tags, columns: Columns of its `?`."""
    try:
        return list(bound_tables(message[30:], tags, columns))
    except (struct.error, ValueError, KeyError, IndexError):
        raise TDengineError(FAILED, "malformed message: a bind whose lengths don't fit") from None


def bound_tables(part, tags, columns):
    total, count, tag_count, column_count, *starts = struct.unpack_from("<Iiii3I", part)
    if total != len(part) or not 0 < count < total or not starts[2]:
        raise ValueError
    if starts[1] and tag_count != len(tags) or column_count != len(columns):
        raise TDengineError(FAILED, "stmt column count not match")
    found = [sections(part, start, f"<{count}{kind}") for start, kind in zip(starts, "HII", strict=True)]
    for name, tag_section, section in zip(*(each or [None] * count for each in found), strict=True):
        tag_arrays = vectors(tag_section, tags, 1) if tag_section else ()
        values = [array[0] if isinstance(array, list) else array.tolist()[0] for array in tag_arrays]
        yield name and name[:-1].decode(), values if tag_section else None, list(vectors(section, columns))


def sections(part, start, lengths):
    """The pieces behind these lengths, as struct unpacks them; none when start is 0."""
    return start and cut(part[start + struct.calcsize(lengths) :], struct.unpack_from(lengths, part, start))


def cut(buffer, lengths):
    """Pieces of these lengths, one behind the other."""
    ends = list(itertools.accumulate(lengths, initial=0))
    if min(lengths, default=0) < 0 or ends[-1] > len(buffer):
        raise ValueError
    return [buffer[start:end] for start, end in itertools.pairwise(ends)]


def vectors(section, columns, rows=None):
    """One array a column; all must have the same number of values."""
    at = 0
    for column in columns:
        total, number, count = struct.unpack_from("<III", section, at)
        if not 12 + count < total <= len(section) - at:
            raise ValueError
        rows = count if rows is None else rows
        if count != rows:
            raise TDengineError(0x0200, "row number in each bind param should be the same")
        yield decode_vector(section[at : at + total], BY_NUMBER[number], count, column.type)
        at += total


def decode_vector(vector, bound, count, declared):
    """The values of one vector, of the type `bound`, for a column of the type `declared`."""
    mask = np.frombuffer(vector, np.uint8, count, 12) != 0
    at, has_lengths = 13 + count, vector[12 + count]
    lengths = struct.unpack_from(f"<{count}i", vector, at) if has_lengths else ()
    at += 4 * len(lengths)
    buffer = vector[at + 4 :]
    if struct.unpack_from("<I", vector, at) != (len(buffer),):
        raise ValueError
    if mask.all() and not buffer:
        return np.ma.masked_all(count, declared.dtype) if declared.dtype else [None] * count
    # TDengine takes the bits as they are: -5 bound as INT to an INT UNSIGNED column is stored as 4294967291
    if declared.dtype and not has_lengths and declared.name in (bound.name, f"{bound.name} UNSIGNED"):
        wire = np.uint8 if bound is BOOL else np.dtype(bound.dtype)  # any byte but 0 is true
        values = np.frombuffer(buffer, wire).astype(declared.dtype, copy=False)
        if len(values) != count:
            raise ValueError
        return np.ma.masked_array(values, mask) if mask.any() else values
    is_decimal = declared.name == "DECIMAL"
    if declared.dtype or not has_lengths or is_decimal != (bound.name == "DECIMAL"):
        raise TDengineError(0x0200, "Invalid operation")
    is_text = is_decimal or declared is NCHAR
    if is_text and buffer.isascii():
        pieces = cut(buffer.decode(), lengths)  # ten times as fast
    else:
        pieces = [piece.decode() if is_text else piece for piece in cut(buffer, lengths)]
    return [None if hidden else piece for piece, hidden in zip(pieces, mask, strict=True)] if mask.any() else pieces
