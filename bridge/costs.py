"""What a view and a read of it would cost, before it is made: the engine does one thing at a time, and everyone waits.

The bounds come from one core of 2026: 20,000 rows of 9 columns are read in 60 ms, and grouped in 80 ms at most.
"""

import math
import time

from . import perspective_pb2 as pb
from . import requests
from .requests import Invalid

MAX_COLUMNS = 2000  # of a view: more than any screen or chart can use
MAX_SPLIT_CELLS = 400_000  # of a view that is split
MAX_INNER = 2000  # groups that are grouped further: the engine works on each for long
MAX_READ_MS = 100
COLUMN_MS, ROW_MS, CELL_MS = 0.03, 0.0006, 0.00025  # of a read
COUNTED_S = 30  # how long a count of different values is used
MAX_COUNTS = 500  # of these that are kept


def bounded(kind, content, size):
    """The content of a request about a view of this `size` (Dimensions), put within it; Invalid when it is too much."""
    rows, columns = size.num_view_rows, size.num_view_columns
    if kind in requests.READS:
        port = content.viewport
        if kind != "view_to_ndjson_string":  # always whole, whatever is requested
            rows = clamp(port, "start_row", "end_row", rows)
            columns = clamp(port, "start_col", "end_col", columns)
    elif kind == "view_column_paths":
        rows, columns = 1, clamp(content, "start_col", "end_col", columns)
    elif kind == "view_get_min_max":
        columns = 1
    elif isinstance(content, pb.Row):
        if content.row_index >= rows:
            raise Invalid(f"There is no row {content.row_index} any more.")
        return content
    else:
        return content
    if columns * COLUMN_MS + rows * ROW_MS + rows * columns * CELL_MS > MAX_READ_MS:
        raise Invalid(f"{rows:,} rows of {columns:,} columns are too much to be read at once: filter or group them.")
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


def check_size(config, size):
    """Whether a view of these dimensions may be kept."""
    check_columns(size.num_view_columns)
    if config.split_by:
        check_cells(size.num_view_rows, size.num_view_columns)


def check_columns(count):
    if count > MAX_COLUMNS:
        raise Invalid(
            f"This makes {count:,} columns, more than {MAX_COLUMNS:,}: split by fewer values, or filter them."
        )


def check_cells(rows, columns):
    if rows * columns > MAX_SPLIT_CELLS:
        raise Invalid(f"This makes {rows:,} rows of {columns:,} columns: split or group by fewer values.")


class Counts:
    """How many different values columns have, counted by the engine; everything here is called in its thread."""

    def __init__(self, session):
        self.session, self.found = session, {}  # (table, expression, column): (when, count)

    def check_view(self, table, config):
        """Raises Invalid for a view that would take too long to make."""
        groups, splits = list(config.group_by), list(config.split_by)
        for level in range(1, len(groups)):
            if self.groups(table, config, groups[:level], MAX_INNER) > MAX_INNER:
                raise Invalid(
                    f"More than {MAX_INNER:,} groups can't be grouped further: group by what has fewer values first."
                )
        if splits:
            shown = len(config.columns.columns.columns) or len(self.session.columns(table))
            columns = self.groups(table, config, splits, MAX_COLUMNS // shown) * shown
            check_columns(columns)
            rows = pb.Size.FromString(self.session.ask("table_size", table)).size
            if groups and rows * columns > MAX_SPLIT_CELLS:
                rows = self.groups(table, config, groups, MAX_SPLIT_CELLS // columns)
            check_cells(rows, columns)

    def groups(self, table, config, names, enough):
        """How many groups these columns make: an upper bound if that is no more than `enough`, or else the number."""
        bound = math.prod(self.count(table, config, name) for name in names)
        if bound <= enough or len(names) == 1 and not config.filter:
            return bound
        return self.probe(table, config, names, config.filter)

    def count(self, table, config, name):
        key = table, config.expressions.get(name), name
        counted_at, count = self.found.get(key, (-math.inf, 0))
        if time.monotonic() - counted_at > COUNTED_S:
            count = self.probe(table, config, [name])
            if len(self.found) >= MAX_COUNTS:
                self.found.clear()
            self.found[key] = time.monotonic(), count
        return max(count, 1)

    def probe(self, table, config, names, filters=()):
        """Makes a view of the groups alone, which takes less time than the view itself, and counts its rows."""
        probe = pb.ViewConfig(group_by=names, filter=filters, filter_op=config.filter_op)
        probe.group_rollup_mode = pb.ViewConfig.GROUP_FLAT
        probe.columns.columns.columns.append(next(iter(self.session.columns(table))))
        needed = {*names, *(each.column for each in filters)}
        probe.expressions.update({name: text for name, text in config.expressions.items() if name in needed})
        self.session.ask("table_make_view", table, pb.MakeView(view_id="probe", config=probe).SerializeToString())
        try:
            return self.session.dimensions("probe").num_view_rows
        finally:
            self.session.ask("view_delete", "probe")
