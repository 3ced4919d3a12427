"""TDengine's data types, and the columns made of them."""

import typing

import numpy as np
import pyarrow as pa

from .errors import refuse

PRECISIONS = ("ms", "us", "ns")
UNITS_PER_S = (10**3, 10**6, 10**9)  # by precision


class Type(typing.NamedTuple):
    """number and name in TDengine; width in bytes, 0 when it varies; dtype on the wire; duck: DuckDB's type."""

    number: int
    name: str
    width: int
    dtype: object
    duck: str

    @property
    def arrow(self):
        """Arrow's type of what is bound; of a DECIMAL its digits are."""
        if self.dtype:
            return pa.from_numpy_dtype(self.dtype)
        return pa.binary() if self.duck == "BLOB" else pa.string()


BOOL = Type(1, "BOOL", 1, np.bool_, "BOOLEAN")
INT = Type(4, "INT", 4, np.int32, "INTEGER")
BIGINT = Type(5, "BIGINT", 8, np.int64, "BIGINT")
FLOAT = Type(6, "FLOAT", 4, np.float32, "FLOAT")
DOUBLE = Type(7, "DOUBLE", 8, np.float64, "DOUBLE")
VARCHAR = Type(8, "VARCHAR", 0, None, "BLOB")  # bytes, which need not be UTF-8
TIMESTAMP = Type(9, "TIMESTAMP", 8, np.int64, "BIGINT")  # an integer, in the precision of its database
NCHAR = Type(10, "NCHAR", 0, None, "VARCHAR")  # str
JSON = Type(15, "JSON", 0, None, "BLOB")  # tags only
VARBINARY = Type(16, "VARBINARY", 0, None, "BLOB")
DECIMAL = Type(17, "DECIMAL", 16, None, "DECIMAL")
DECIMAL64 = Type(21, "DECIMAL", 8, None, "DECIMAL")  # of a precision up to 18
TYPES = (BOOL, INT, BIGINT, FLOAT, DOUBLE, VARCHAR, TIMESTAMP, NCHAR, JSON, VARBINARY, DECIMAL, DECIMAL64)
TYPES += (Type(2, "TINYINT", 1, np.int8, "TINYINT"), Type(11, "TINYINT UNSIGNED", 1, np.uint8, "UTINYINT"))
TYPES += (Type(3, "SMALLINT", 2, np.int16, "SMALLINT"), Type(12, "SMALLINT UNSIGNED", 2, np.uint16, "USMALLINT"))
TYPES += (Type(13, "INT UNSIGNED", 4, np.uint32, "UINTEGER"), Type(14, "BIGINT UNSIGNED", 8, np.uint64, "UBIGINT"))
BY_NUMBER = {type.number: type for type in TYPES}
BY_NAME = {type.name: type for type in TYPES} | {"BINARY": VARCHAR}
BY_DUCK = {type.duck: type for type in TYPES} | {"BIGINT": BIGINT, "HUGEINT": BIGINT}  # BLOB: VARBINARY


class Column(typing.NamedTuple):
    """A column of a table or of a result.

    length: n of VARCHAR(n) (bytes) or NCHAR(n) (characters), or a DECIMAL's precision; note: as DESCRIBE gives it, TAG
    or COMPOSITE KEY; stored: its name in DuckDB's table.
    """

    name: str
    type: Type
    length: int = 0
    scale: int = 0
    note: str = ""
    stored: str = ""

    @property
    def is_decimal(self):
        return self.type.name == "DECIMAL"

    @property
    def duck(self):
        return f"DECIMAL({self.length}, {self.scale})" if self.is_decimal else self.type.duck

    def described(self):
        """Its name, type and length, as DESCRIBE gives them."""
        return self.name, self.duck if self.is_decimal else self.type.name, self.type.width or self.length

    def fields(self):
        """Its name, type's number, length, precision and scale, as the reply to a query gives them."""
        decimal = (self.length, self.scale) if self.is_decimal else (0, 0)
        return self.name, self.type.number, self.type.width or self.length, *decimal

    @property
    def width(self):
        """Bytes of a value, as a raw block's schema and a statement's fields give them."""
        if self.is_decimal:
            return self.type.width << 24 | self.length << 8 | self.scale
        return self.type.width or (4 if self.type is NCHAR else 1) * self.length + 2

    def check_lengths(self, array):
        """TDengineError when one of the values (an Arrow array) does not fit."""
        if self.type.width or array.null_count == len(array):
            return
        longest = max(len(value) for value in array.to_pylist() if value is not None)
        refuse(longest > self.length, 0x2653, f"Value too long for column/tag: {self.name}")
