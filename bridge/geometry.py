"""A geometry's bytes (well-known binary) as well-known text, exactly: TDengine's own text has six decimals only."""

import decimal
import io
import math
import struct

KINDS = {1: "POINT", 2: "LINESTRING", 3: "POLYGON", 4: "MULTIPOINT", 5: "MULTILINESTRING", 6: "MULTIPOLYGON"}
KINDS |= {7: "GEOMETRYCOLLECTION"}


def well_known_text(wkb):
    """`POINT (1.5 2)` and the like, numbers as the shortest decimals that are the same double; None if it is none."""
    try:
        return " ".join(read(io.BytesIO(wkb)))
    except (struct.error, KeyError, RecursionError):
        return None


def read(stream):
    """(kind, what stands behind it in the text) of the geometry that comes next."""
    order = "<" if stream.read(1) == b"\1" else ">"

    def take(form):
        form = order + form
        return struct.unpack(form, stream.read(struct.calcsize(form)))

    def points():
        numbers = [plain(number) for number in take(f"{2 * take('I')[0]}d")]
        return listed(map(" ".join, zip(numbers[::2], numbers[1::2], strict=True)))

    kind = KINDS[take("I")[0]]
    if kind == "POINT":
        x, y = take("2d")
        return kind, "EMPTY" if math.isnan(x) else f"({plain(x)} {plain(y)})"
    if kind == "LINESTRING":
        return kind, points()
    parts = range(take("I")[0])
    if kind == "POLYGON":
        return kind, listed(points() for _ in parts)
    parts = (read(stream) for _ in parts)
    if kind == "GEOMETRYCOLLECTION":
        return kind, listed(map(" ".join, parts))
    return kind, listed(text.strip("()") if kind == "MULTIPOINT" else text for _, text in parts)


def listed(texts):
    return f"({text})" if (text := ", ".join(texts)) else "EMPTY"


def plain(number):
    return format(decimal.Decimal(repr(number)), "f").removesuffix(".0")
