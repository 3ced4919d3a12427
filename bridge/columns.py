"""TDengine's types as Arrow's: how each column is selected, and how its values are converted."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

import pyarrow as pa

from .geometry import well_known_text
from .sql import UNITS_PER_S, quoted

UNSHOWN = "__unshown__"  # an extra column, there only when needed: how many of a row's values became null
ROW = "__row__"  # an extra column, of sources whose rows can be told apart by nothing else
RESERVED = ("psp_", "__")  # how names that the engine, its viewer or we use begin: their columns lose rows, or crash
# Wider than TDengine's where the engine's sums overflow as rows leave a table with a limit (docs/engine-faults.md).
INTEGERS = {
    "TINYINT": pa.int32(), "SMALLINT": pa.int32(), "INT": pa.int32(), "BIGINT": pa.int64(),
    "TINYINT UNSIGNED": pa.int32(), "SMALLINT UNSIGNED": pa.int32(), "INT UNSIGNED": pa.int64(),
    "BIGINT UNSIGNED": pa.uint64(),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: its name, its expression in a SELECT, its Arrow type, how a value is converted."""

    name: str
    expression: str
    type: pa.DataType
    convert: Callable | None = None
    pushed: bool = True  # whether taosws can read it also in what a consumer is sent


def finite(value):
    value = float(value)  # DECIMAL comes as Decimal
    return value if math.isfinite(value) else None


def day(units_per_s, value):
    """The calendar day, UTC, of a timestamp's integer, as days since 1970."""
    return value // (86_400 * units_per_s)


DAYS = {unit: functools.partial(day, units) for unit, units in UNITS_PER_S.items()}  # one each: Columns are compared


def decoded(value):
    """Bytes as text; None where they are not UTF-8, which VARCHAR may hold."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def key_text(value):
    """As decoded(), but rows must still be told apart by what is not UTF-8."""
    return value.decode(errors="backslashreplace")


def shown_names(names, ours=()):
    """{name of a table's column: its name in Perspective}: `_` is appended to RESERVED names and to `ours`."""
    shown, taken = {}, set(names)
    for name in names:
        found = name
        if name in ours or name.startswith(RESERVED):
            while found in taken:
                found += "_"
            taken.add(found)
        shown[name] = found
    return shown


def column(name, kind, precision, is_key=False, is_date=False):
    """The Column of a DESCRIBE row: its name, its type as 'INT UNSIGNED' or 'DECIMAL(20, 4)'; ValueError if unknown.

    is_date: a TIMESTAMP that stands for a calendar date, UTC.
    """
    expression, kind = quoted(name), re.sub(r"\(.*", "", kind).strip()
    if kind == "TIMESTAMP":  # integers: the client's texts would cost ten times as much, and depend on its time zone
        expression = f"CAST({expression} AS BIGINT)"
        if is_date:
            return Column(name, expression, pa.date32(), DAYS[precision])
        return Column(name, expression, pa.timestamp(precision))
    if kind in INTEGERS:
        return Column(name, expression, INTEGERS[kind])
    if kind == "BOOL":
        return Column(name, expression, pa.bool_())
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        return Column(name, expression, pa.float64(), finite)
    if kind in ("VARCHAR", "BINARY"):  # as bytes: taosws panics where they are not UTF-8
        return Column(name, f"CAST({expression} AS VARBINARY)", pa.string(), key_text if is_key else decoded)
    if kind in ("NCHAR", "JSON"):  # a JSON comes as text from a query; pushed, in a form of TDengine's own
        return Column(name, expression, pa.string(), pushed=kind != "JSON")
    if kind == "VARBINARY":
        return Column(name, expression, pa.string(), bytes.hex)
    if kind == "GEOMETRY":
        return Column(name, expression, pa.string(), well_known_text)
    raise ValueError(f"column {name} is of type {kind}, which is not known here")


TBNAME = Column("tbname", "CAST(tbname AS VARBINARY)", pa.string(), key_text)


def perspective_type(arrow_type):
    """Perspective's name of an Arrow type."""
    if pa.types.is_timestamp(arrow_type):
        return "datetime"
    if pa.types.is_integer(arrow_type):
        return "integer"
    return {"bool": "boolean", "double": "float", "date32[day]": "date"}.get(str(arrow_type), "string")


def to_arrow(rows, columns):
    """Rows, tuples in the columns' order, as an Arrow table; a value that its column can't show becomes null."""
    arrays, unshown = [], {}
    values_of = zip(*rows, strict=True) if rows else [()] * len(columns)
    for each, values in zip(columns, values_of, strict=True):
        if each.convert is not None:
            converted = [None if value is None else each.convert(value) for value in values]
            if converted.count(None) > values.count(None):
                for k, value in enumerate(values):
                    if value is not None and converted[k] is None:
                        unshown[k] = unshown.get(k, 0) + 1
            values = converted
        arrays.append(pa.array(values, each.type))
    names = [each.name for each in columns]
    if unshown:
        arrays.append(pa.array([unshown.get(k, 0) for k in range(len(rows))], pa.int64()))
        names.append(UNSHOWN)
    return pa.table(arrays, names)


def as_engine_times(table):
    """Times before 1970 in whole milliseconds, rounded towards the past as others are: the engine rounds them up."""
    import pyarrow.compute as pc  # here: it takes 60 ms to load, and who only reads does without

    for k, field in enumerate(table.schema):
        if not (pa.types.is_timestamp(field.type) and field.type.unit in ("us", "ns")):
            continue
        if (pc.min(table.column(k)).value or 0) < 0:
            table = table.set_column(k, field, pc.floor_temporal(table.column(k), unit="millisecond"))
    return table


def to_ipc(table):
    """An Arrow table as bytes of Arrow's streaming format, which Perspective takes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
