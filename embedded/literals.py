"""Values of INSERT and TAGS, as far as DuckDB's CAST does not convert them as TDengine does."""

import datetime
import decimal
import json
import re
import typing

import numpy as np

from .errors import TDengineError
from .types import BOOL, DOUBLE, FLOAT, JSON, NCHAR, TIMESTAMP, UNITS_PER_S, VARBINARY

DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.(\d*))?([Zz]|[+-]\d\d:\d\d)?)?")
LARGEST = {type: float(np.finfo(type.dtype).max) for type in (FLOAT, DOUBLE)}
BOOLEANS = {"true": True, "false": False}


class Moment(typing.NamedTuple):
    """NOW or TODAY with its durations."""

    nanoseconds: int


def timestamp(text, precision):
    """The timestamp that a date stands for, UTC unless it says otherwise, cut to the precision; or None."""
    match = DATE.fullmatch(text)
    try:
        day, time, fraction, offset = match.groups()
        moment = datetime.datetime.fromisoformat(f"{day}T{time or '00:00:00'}{(offset or 'Z').upper()}")
    except (ValueError, AttributeError):
        return None
    digits = len(str(UNITS_PER_S[precision])) - 1
    return int(moment.timestamp()) * UNITS_PER_S[precision] + int((fraction or "")[:digits].ljust(digits, "0"))


def convert(value, column, precision):
    """value: None, bool, int, Decimal, str or a Moment; what DuckDB is to convert is returned as str."""
    if value is None:
        return None
    try:
        found = converted(value, column.type, precision)
    except (ValueError, ArithmeticError, RecursionError):
        found = None
    if found is None:
        near = str(value)[:64].encode(errors="replace").decode()
        raise TDengineError(0x0216, f"syntax error near '{near}' (invalid {column.type.name.lower()} data)")
    column.check_lengths([found])
    return found


def converted(value, type, precision):
    """None, or an error of a conversion, when the value is none for this type."""
    if type is TIMESTAMP:
        if isinstance(value, Moment):
            return value.nanoseconds // (10**9 // UNITS_PER_S[precision])
        if isinstance(value, str):
            value = int(value) if re.fullmatch("[0-9]{1,19}", value) else timestamp(value, precision)
        return value if value.__class__ is int and -(2**63) <= value < 2**63 else None
    if type is BOOL:
        found = BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value
        return found if isinstance(found, bool) else decimal.Decimal(found) != 0
    if isinstance(value, Moment) or type.width == 0 and not isinstance(value, str):
        return None
    if type is NCHAR:
        return value if value.encode() is not None else None  # an error: what is not UTF-8 in the SQL
    if type is VARBINARY and value[:2].lower() == "\\x":
        return bytes.fromhex(value[2:])
    if type is JSON:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":")).encode()
    if type in (FLOAT, DOUBLE):
        return str(value) if abs(float(value)) <= LARGEST[type] else None
    return str(value) if type.width else value.encode(errors="surrogateescape")
