"""What a read of a view costs, before it is made: the engine does one thing at a time, and everyone waits for it."""

from . import perspective_pb2 as pb
from . import requests
from .requests import Invalid

MAX_COLUMNS = 2000  # of a view: more than any screen or chart can use
MAX_CELLS = 400_000  # rows times columns of one read, which takes about 100 ms
NDJSON_IS_WHOLE = True  # the engine looks at no viewport there


def bounded(kind, content, size):
    """The content of a request, put within a view of this `size` (Dimensions); Invalid when it is too much."""
    rows, columns = size.num_view_rows, size.num_view_columns
    if kind in requests.READS:
        port = content.viewport
        rows = clamp(port, "start_row", "end_row", rows)
        columns = clamp(port, "start_col", "end_col", columns)
    elif kind == "view_column_paths":
        columns, rows = clamp(content, "start_col", "end_col", columns), 1
    elif kind != "view_get_min_max":
        return content
    if rows * columns > MAX_CELLS:
        raise Invalid(
            f"This is {rows:,} rows of {columns:,} columns, more than can be read at once: filter or group them."
        )
    return content


def clamp(port, start, end, count):
    """Puts a part of `count` within it; how many are read."""
    first = min(getattr(port, start), count)
    last = min(getattr(port, end), count) if port.HasField(end) else count
    if port.HasField(start):
        setattr(port, start, first)
    if port.HasField(end):
        setattr(port, end, max(first, last))
    return max(last - first, 0)


def check_row(content, size):
    if isinstance(content, pb.Row) and content.row_index >= size.num_view_rows:
        raise Invalid(f"There is no row {content.row_index} any more.")
    if isinstance(content, pb.Depth) and content.depth > requests.MAX_LEVELS:
        raise Invalid(f"There are no {content.depth} levels.")
