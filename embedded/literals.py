"""Literals of an INSERT, converted to a column's type by TDengine's rules."""

import decimal
import struct

from . import times
from .types import BOOL, TIMESTAMP, VARBINARY, TDengineError

RANGES = {
    **{number: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for number, bits in ((2, 8), (3, 16), (4, 32), (5, 64))},
    **{number: (0, 2**bits - 1) for number, bits in ((11, 8), (12, 16), (13, 32), (14, 64))},
}


def shown_type(type):
    """A type's name in TDengine's messages: `unsigned int`, not `int unsigned`."""
    words = type.name.lower().split()
    return " ".join(reversed(words))


def convert(parser, value, column, precision, zone):
    """The value (a sql.Value) for this column: Python's int, float, bool, str, bytes or None."""
    type, kind = column.type, value.kind
    if kind == "?":
        raise parser.insert_error(value.token, "? only used in stmt")
    if kind == "null" or kind == "text" and not (type.is_text or type is VARBINARY) and value.value.lower() == "null":
        return None
    if value.shift and type is not TIMESTAMP:
        raise parser.insert_error(value.token, "invalid data or symbol")
    if type is TIMESTAMP:
        return to_timestamp(parser, value, precision, zone)
    if type is BOOL:
        return to_bool(parser, value)
    if type.is_integer:
        return to_integer(parser, value, type)
    if type.is_float:
        return to_float(parser, value, type)
    raw = parser.sql[value.token.start : value.token.end]
    if type is VARBINARY:
        if kind != "text":
            raise TDengineError(0x2671, "Invalid varbinary value")
        return to_bytes(raw[1:-1], value.value)
    return value.value if kind == "text" else raw


def to_timestamp(parser, value, precision, zone):
    kind, moment = value.kind, None
    if kind == "now":
        moment = times.now(precision)
    elif kind == "today":
        moment = times.today(precision, zone)
    elif kind == "int":
        moment = value.value
    elif kind == "text":
        moment = times.from_text(value.value, precision, zone)
        if moment is None and value.value.lstrip("-").isdigit() and value.value.isascii():
            moment = int(value.value)
    if moment is None or not -(2**63) <= moment < 2**63:
        raise parser.insert_error(value.token, "invalid timestamp")
    for count, unit in value.shift:
        moment = times.shifted(moment, count, unit, precision, zone)
    if not -(2**63) <= moment < 2**63:
        raise TDengineError(0x060B, "Timestamp data out of range")
    return moment


def to_bool(parser, value):
    if value.kind in ("bool", "int", "float"):
        return bool(value.value)
    if value.kind == "text" and value.value.lower() in ("true", "false"):
        return value.value.lower() == "true"
    number = to_number(value)
    if number is None:
        raise parser.insert_error(value.token, "invalid bool data")
    return number != 0


def to_number(value):
    """A Decimal, or None when it is no number."""
    if value.kind in ("int", "float"):
        return decimal.Decimal(repr(value.value))
    if value.kind == "text":
        try:
            number = decimal.Decimal(value.value)
        except decimal.InvalidOperation:
            return None
        return number if number.is_finite() and "_" not in value.value else None
    return None


def to_integer(parser, value, type):
    number = to_number(value)
    name = shown_type(type)
    if number is None or abs(number) >= 10**30:
        raise parser.insert_error(value.token, f"invalid {name} data")
    integer = int(number.to_integral_value(decimal.ROUND_HALF_UP))  # away from zero
    low, high = RANGES[type.number]
    if not low <= integer <= high:
        overflow = type.width < 8 and -(2**63) <= integer < 2**63 and (low < 0 or integer >= 0)
        raise parser.insert_error(value.token, f"{name} data overflow" if overflow else f"invalid {name} data")
    return integer


def to_float(parser, value, type):
    number = to_number(value)
    try:
        result = None if number is None else float(number)
        if result is not None:
            struct.pack("<f" if type.width == 4 else "<d", result)
    except OverflowError:
        result = None
    if result is None or result in (float("inf"), float("-inf")):
        raise parser.insert_error(value.token, f"illegal {type.name.lower()} data")
    return result


def to_bytes(raw, text):
    if raw[:2].lower() != "\\x":
        return text.encode()
    try:
        return bytes.fromhex(raw[2:])
    except ValueError:
        raise TDengineError(0x2671, "Invalid varbinary value") from None
