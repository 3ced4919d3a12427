"""Values of INSERT and TAGS, as far as DuckDB's CAST does not convert them as TDengine does."""

import calendar
import datetime
import decimal
import json
import re
import typing

import numpy as np

from .types import BOOL, FLOAT, JSON, NCHAR, TIMESTAMP, UNITS_PER_S, VARBINARY, TDengineError

DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.(\d*))?([Zz]|[+-]\d\d:\d\d)?)?")


class Moment(typing.NamedTuple):
    """NOW or TODAY with its durations."""

    nanoseconds: int


def timestamp(text, precision):
    """The timestamp that a date, maybe with a time, stands for, or None. UTC unless it says otherwise; cut, not rounded."""
    match = DATE.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, offset = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{time or '00:00:00'}{offset or ''}".upper())
    except ValueError:
        return None
    digits = len(str(UNITS_PER_S[precision])) - 1
    rest = int((fraction or "")[:digits].ljust(digits, "0"))
    return calendar.timegm(moment.utctimetuple()) * UNITS_PER_S[precision] + rest


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
        words = {"true": True, "false": False, True: True, False: False}
        return (
            words[value.lower()] if isinstance(value, str) and value.lower() in words else decimal.Decimal(value) != 0
        )
    if isinstance(value, Moment) or type.width == 0 and not isinstance(value, str):
        return None
    if type is NCHAR:
        value.encode()  # what is not UTF-8 in the SQL is there as lone surrogates
        return value
    if type is VARBINARY and value[:2].lower() == "\\x":
        return bytes.fromhex(value[2:])
    if type is JSON:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":")).encode()
    if type.width == 0:
        return value.encode(errors="surrogateescape")
    if type.number in (6, 7):
        with np.errstate(over="ignore"):
            return str(value) if np.isfinite(np.float32(value) if type is FLOAT else float(value)) else None
    return str(value)
