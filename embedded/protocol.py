"""The binary layouts of taosAdapter's requests and replies; those of results are in blocks.py. All is little-endian.

A column that was bound is an Arrow array, of a DECIMAL's digits as text.
"""

import itertools
import struct

import numpy as np
import pyarrow as pa

from .errors import FAILED, TDengineError, refuse
from .types import BOOL, BY_NUMBER

FETCH, FETCH_RAW_DATA = 7, 8  # action numbers at offset 16 of a binary request
ACTIONS = {6: "binary_query", FETCH: "fetch", 9: "stmt2_bind"}


def request(message):
    """(action, args) of a binary request."""
    refuse(len(message) < 24, FAILED, "message length is too short")
    req_id, target, number = struct.unpack_from("<QQQ", message)
    action = ACTIONS.get(number, "")
    return action, {"req_id": req_id, "stmt_id" if action == "stmt2_bind" else "id": target, "message": message}


def query_text(message):
    """The SQL of a QUERY request."""
    length = int.from_bytes(message[26:30], "little")
    refuse(not 0 < length <= len(message) - 30, FAILED, "message length is too short")
    return message[30 : 30 + length].decode(errors="surrogateescape")


def reply_head(req_id, action, target, code=0, text=b""):
    return struct.pack("<QQHQQII", 2**64 - 1, action, 1, 0, req_id, code, len(text)) + text + struct.pack("<Q", target)


def error_reply(req_id, action, target, error):
    """To FETCH or FETCH_RAW_DATA."""
    return reply_head(req_id, action, target, error.code, error.message.encode(errors="replace")) + b"\1"


def fetch_reply(req_id, result_id, block):
    """A raw block, or None at the end of the data."""
    end = b"\1" if block is None else struct.pack("<BI", 0, len(block)) + block
    return reply_head(req_id, FETCH, result_id) + end


def raw_data_reply(req_id, message_id, message):
    """A message of blocks.encode_message()."""
    return reply_head(req_id, FETCH_RAW_DATA, message_id) + struct.pack("<HI", 2, len(message)) + message


def decode_bind(part, tags, columns):
    """(table name or None, its tags or None, arrays) of each table in a STMT2_BIND; tags, columns: of its `?`."""
    total, count, tag_count, column_count, *starts = struct.unpack_from("<Iiii3I", part)
    if total != len(part) or not 0 < count < total or not starts[2]:
        raise ValueError
    refuse(starts[1] and tag_count != len(tags) or column_count != len(columns), FAILED, "stmt column count not match")
    found = [sections(part, start, f"<{count}{kind}") for start, kind in zip(starts, "HII", strict=True)]
    for name, tag_section, section in zip(*(each or [None] * count for each in found), strict=True):
        tag_arrays = list(vectors(tag_section, tags, 1)) if tag_section else None
        yield name and name[:-1].decode(), tag_arrays, list(vectors(section, columns))


def sections(part, start, lengths):
    """The pieces behind these lengths, as struct unpacks them, one behind the other; none when start is 0."""
    if not start:
        return []
    at = start + struct.calcsize(lengths)
    ends = list(itertools.accumulate(struct.unpack_from(lengths, part, start), initial=at))
    if ends[-1] > len(part):
        raise ValueError
    return [part[start:end] for start, end in itertools.pairwise(ends)]


def vectors(section, columns, rows=None):
    """One array a column; all must have the same number of values."""
    at = 0
    for column in columns:
        total, number, count = struct.unpack_from("<III", section, at)
        if not 12 + count < total <= len(section) - at:
            raise ValueError
        rows = count if rows is None else rows
        refuse(count != rows, 0x0200, "row number in each bind param should be the same")
        yield decode_vector(section[at : at + total], BY_NUMBER[number], count, column.type)
        at += total


def decode_vector(vector, bound, count, declared):
    """The values of one vector, of the type `bound`, as an Arrow array for a column of the type `declared`."""
    nulls = np.frombuffer(vector, np.uint8, count, 12) != 0
    lengths = np.frombuffer(vector, "<i4", count if vector[12 + count] else 0, 13 + count)
    at = 13 + count + lengths.nbytes
    buffer = vector[at + 4 :]
    if struct.unpack_from("<I", vector, at) != (len(buffer),):
        raise ValueError
    if nulls.all() and not buffer:
        return pa.nulls(count, declared.arrow)
    # TDengine takes the bits as they are: -5 bound as INT to an INT UNSIGNED column is stored as 4294967291
    if declared.dtype and not lengths.size and declared.name in (bound.name, f"{bound.name} UNSIGNED"):
        wire = np.uint8 if bound is BOOL else np.dtype(bound.dtype)  # any byte but 0 is true
        return pa.array(np.frombuffer(buffer, wire).astype(declared.dtype, copy=False), mask=nulls)
    if declared.dtype or not lengths.size or (declared.name == "DECIMAL") != (bound.name == "DECIMAL"):
        raise TDengineError(0x0200, "Invalid operation")
    ends = np.concatenate(([0], lengths)).cumsum().astype(np.int32)
    parts = [pa.py_buffer(part) for part in (np.packbits(~nulls, bitorder="little"), ends, buffer)]
    array = pa.Array.from_buffers(declared.arrow, count, parts)
    array.validate(full=True)  # that the lengths fit, and texts are UTF-8; a ValueError otherwise
    return array
