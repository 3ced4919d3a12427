"""TDengine's data types, the columns made of them, and its errors."""

import dataclasses

import numpy as np

STAND_IN = "stand-in for TDengine (embedded, not TDengine itself)"
PRECISIONS = {"ms": 0, "us": 1, "ns": 2}
UNITS_PER_S = (10**3, 10**6, 10**9)  # by precision


class TDengineError(Exception):
    """What TDengine would answer: a code of 16 bits and a text. 0xFFFF is taosAdapter's own."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass(frozen=True)
class Type:
    """number on the wire; width in bytes, 0 when it varies; dtype of a column of it; duck: what DuckDB stores it as."""

    number: int
    name: str
    width: int
    dtype: type
    duck: str

    @property
    def is_text(self):
        return self.number in (8, 10)

    @property
    def is_integer(self):
        return self.number in (2, 3, 4, 5, 11, 12, 13, 14)

    @property
    def is_float(self):
        return self.number in (6, 7)

    @property
    def is_number(self):
        return self.is_integer or self.is_float


BOOL = Type(1, "BOOL", 1, np.bool_, "BOOLEAN")
TINYINT = Type(2, "TINYINT", 1, np.int8, "TINYINT")
SMALLINT = Type(3, "SMALLINT", 2, np.int16, "SMALLINT")
INT = Type(4, "INT", 4, np.int32, "INTEGER")
BIGINT = Type(5, "BIGINT", 8, np.int64, "BIGINT")
FLOAT = Type(6, "FLOAT", 4, np.float32, "FLOAT")
DOUBLE = Type(7, "DOUBLE", 8, np.float64, "DOUBLE")
VARCHAR = Type(8, "VARCHAR", 0, np.object_, "VARCHAR")
TIMESTAMP = Type(9, "TIMESTAMP", 8, np.int64, "BIGINT")  # an integer, in the precision of its database
NCHAR = Type(10, "NCHAR", 0, np.object_, "VARCHAR")
UTINYINT = Type(11, "TINYINT UNSIGNED", 1, np.uint8, "UTINYINT")
USMALLINT = Type(12, "SMALLINT UNSIGNED", 2, np.uint16, "USMALLINT")
UINT = Type(13, "INT UNSIGNED", 4, np.uint32, "UINTEGER")
UBIGINT = Type(14, "BIGINT UNSIGNED", 8, np.uint64, "UBIGINT")
VARBINARY = Type(16, "VARBINARY", 0, np.object_, "BLOB")
TYPES = (
    *(BOOL, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, VARCHAR, TIMESTAMP, NCHAR),
    *(UTINYINT, USMALLINT, UINT, UBIGINT, VARBINARY),
)
BY_NUMBER = {type.number: type for type in TYPES}
BY_NAME = {type.name: type for type in TYPES} | {"BINARY": VARCHAR, "INTEGER": INT, "INTEGER UNSIGNED": UINT}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table or of a result; length is the n of VARCHAR(n) (bytes) or NCHAR(n) (characters)."""

    name: str
    type: Type
    length: int = 0
    is_tag: bool = False

    @property
    def width(self):
        """Bytes of a value as a raw block's schema and a statement's fields tell them."""
        if self.type is NCHAR:
            return 4 * self.length + 2
        return self.type.width or self.length + 2

    @property
    def shown_length(self):
        """What fields_lengths and DESCRIBE say."""
        return self.type.width or self.length

    def check_length(self, values):
        """TDengineError when one of the values (str, bytes or None) does not fit."""
        if self.type is NCHAR:
            too_long = any(value is not None and len(value) > self.length for value in values)
        elif self.type is VARCHAR:
            too_long = any(
                value is not None and (4 * len(value) > self.length and len(value.encode()) > self.length)
                for value in values
            )
        else:
            too_long = any(value is not None and len(value) > self.length for value in values)
        if too_long:
            raise TDengineError(0x2653, f"Value too long for column/tag: {self.name}")
