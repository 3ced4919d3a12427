"""Values of INSERT and TAGS, as far as DuckDB's CAST does not convert them as TDengine does."""

import json
import re
import sys
import time

import numpy as np

from .errors import UNPARSABLE, TDengineError
from .types import DOUBLE, FLOAT, JSON, NCHAR, PRECISIONS, TIMESTAMP, UNITS_PER_S, VARBINARY

MARK = ("mark", "?")
WORDS = {"true": ("bool", "true"), "false": ("bool", "false"), "null": ("null", None), "?": MARK}
DATE = re.compile(r"(19[7-9]|20\d)\d-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,9})?)?Z?")
LARGEST = {FLOAT: float(np.finfo(np.float32).max), DOUBLE: sys.float_info.max}


def parse(parser):
    """The next value: (kind, text) with the kinds int, float, text, bool, now (nanoseconds), null, or MARK."""
    kind, value, *_ = parser.token
    if kind not in ("int", "float", "text"):
        moment = parser.time(time.time_ns())
        if moment is not None:
            return "now", moment
        if not (parser.is_next("-") or parser.is_next("+")):
            return WORDS[parser.one_of(*WORDS)]
        sign = parser.next().value
        kind, value = parser.token.kind, sign + parser.token.value
        if kind not in ("int", "float"):
            raise parser.refused()
    parser.next()
    return kind, value


def convert(literal, column, precision):
    """The value for a column, as text for all that DuckDB is to convert. TDengineError when it is none for it."""
    kind, value = literal
    if kind == "null":
        return None
    try:
        found = converted(kind, value, column.type, precision)
    except (ValueError, RecursionError):
        near = str(value)[:64].encode(errors="replace").decode()
        message = f"syntax error near '{near}' (invalid {column.type.name.lower()} data)"
        raise TDengineError(UNPARSABLE, message) from None
    column.check_lengths([found])
    return found


def converted(kind, value, type, precision):
    """ValueError when the value is none for this type."""
    if type is TIMESTAMP:
        if kind == "now":
            return value // (10**9 // UNITS_PER_S[precision])
        found = timestamp(value, precision) if kind == "text" else int(value)
        if not -(2**63) <= found < 2**63:
            raise ValueError
        return found
    if type.width:
        if kind not in ("int", "float", "bool") or type in LARGEST and not abs(float(value)) <= LARGEST[type]:
            raise ValueError
        return value
    if kind != "text":
        raise ValueError
    if type is NCHAR:
        value.encode()  # an error: what is not UTF-8 in the SQL
        return value
    if type is VARBINARY and value[:2].lower() == "\\x":
        return bytes.fromhex(value[2:])
    if type is JSON:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":")).encode()
    return value.encode(errors="surrogateescape")


def timestamp(text, precision):
    """The timestamp that a date stands for, UTC, cut to the precision; ValueError when it is none."""
    if not DATE.fullmatch(text):
        raise ValueError
    moment = np.datetime64(text.removesuffix("Z"), "ns")
    return int(moment.astype(f"datetime64[{PRECISIONS[precision]}]").astype(np.int64))
