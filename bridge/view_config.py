"""What a view may be made of: columns, filters and aggregates that the engine knows; some others crash it."""

from . import perspective_pb2 as pb
from .costs import MAX_COLUMNS
from .requests import Invalid

MAX_LEVELS = 8  # of groups, and of splits
MAX_ITEMS = 100  # filters, sorts, expressions, windows: of each
MAX_AGGREGATED = 100  # columns: for each the engine works on all rows when the view is made, and on many at each update
YEAR_9999_MS = 253_402_300_799_000  # since 1970
COLUMN_SORTS = [pb.ViewConfig.COL_ASC, pb.ViewConfig.COL_DESC, pb.ViewConfig.COL_ASC_ABS, pb.ViewConfig.COL_DESC_ABS]
NULL_FILTERS = {"is null", "is not null"}
LIST_FILTERS = {"in", "not in"}
WINDOWS = "sum avg count min max stddev var lag lead diff rate ema".split()


class Features:
    """Which filters and aggregates the engine knows for each type of column."""

    def __init__(self, body):
        features = pb.Features.FromString(body)
        self.filters = {kind: set(ops.options) for kind, ops in features.filter_ops.items()}
        self.aggregates = {
            kind: {each.name: len(each.args) for each in found.aggregates}
            for kind, found in features.aggregates.items()
        }
        for kind, found in self.aggregates.items():  # it says that it knows these, and crashes (docs/engine-faults.md)
            found.pop("high minus low", None)
            if kind in (pb.DATE, pb.DATETIME):
                found.pop("avg", None)


def check_config(config, columns, expressions, features):
    """Raises Invalid for what the engine can't make a view of.

    `columns` are the table's, `expressions` those that the config adds, both as {name: type}. What means nothing, or
    what the engine needs to see, is put in order in the config itself.
    """
    types = columns | expressions
    for what in ("group_by", "split_by"):
        names = list(getattr(config, what))
        if len(names) > MAX_LEVELS or len(names) != len(set(names)):
            raise Invalid(f"{what}: at most {MAX_LEVELS} levels, all different.")
        for name in names:
            known(name, types, what)
    for what in ("filter", "sort", "expressions", "windows"):
        if len(getattr(config, what)) > MAX_ITEMS:
            raise Invalid(f"{what}: at most {MAX_ITEMS}.")
    for name in [*expressions, *config.windows]:
        if name.startswith("psp_"):
            raise Invalid(f'"{name}": names that begin with psp_ are the engine\'s own.')
    for name, window in config.windows.items():
        if name in types or not name:
            raise Invalid(f'window "{name}": there is a column of this name.')
        check_window(name, window, columns, types)
    types = types | dict.fromkeys(config.windows, pb.FLOAT)
    aggregated = check_width(config, columns)
    for name in config.columns.columns.columns:
        known(name, types, "columns")
    tidy_sort(config, types)
    if config.group_by_depth > len(config.group_by):
        config.group_by_depth = len(config.group_by)
    for each in config.filter:
        check_filter(each, known(each.column, types, "filter"), features)
    for name, each in list(config.aggregates.items()):
        if name in types:
            check_aggregate(name, each.aggregations, types[name], types, features)
        if name not in aggregated:  # also of an expression that was deleted
            del config.aggregates[name]


def check_width(config, columns):
    """The names of what is aggregated; without groups a column costs little, and a wide table is shown whole."""
    is_chosen = config.columns.WhichOneof("choice") == "columns"
    shown = config.columns.columns.columns if is_chosen else columns
    if len(shown) > MAX_COLUMNS:
        raise Invalid(f"columns: at most {MAX_COLUMNS:,}.")
    if not (config.group_by or config.split_by or config.group_rollup_mode == pb.ViewConfig.GROUP_TOTAL):
        return set()
    if len(shown) > MAX_AGGREGATED:
        raise Invalid(f"columns: at most {MAX_AGGREGATED} can be grouped or split, take some away first.")
    return {*shown, *(each.column for each in config.sort)}


def tidy_sort(config, types):
    """One sort a column, and none of columns where there are no splits: the engine crashes on others."""
    sorts = {}
    for each in config.sort:
        known(each.column, types, "sort")
        if each.op not in pb.ViewConfig.SortOrder.values():
            raise Invalid("sort: this order is not known.")
        of_columns = each.op in COLUMN_SORTS
        if each.op != pb.ViewConfig.NONE and (config.split_by or not of_columns):
            sorts.setdefault(each.column, each.op)
    del config.sort[:]
    for column, op in sorts.items():
        config.sort.add(column=column, op=op)


def check_filter(each, kind, features):
    if each.op not in features.filters[kind]:
        raise Invalid(f'filter "{each.column}": {each.op or "nothing"} is no comparison for this column.')
    if each.op in NULL_FILTERS and not each.value:
        each.value.add().null = 0
    if each.op not in LIST_FILTERS and len(each.value) != 1:
        raise Invalid(f'filter "{each.column}" {each.op}: needs one value.')
    for value in each.value:
        if value.WhichOneof("scalar") is None:
            raise Invalid(f'filter "{each.column}" {each.op}: a value is missing.')
        if kind in (pb.DATE, pb.DATETIME) and not abs(value.float) <= YEAR_9999_MS:
            raise Invalid(f'filter "{each.column}" {each.op}: this is no time.')


def check_aggregate(name, parts, kind, types, features):
    arities = features.aggregates[kind]
    if not parts or parts[0] not in arities:
        raise Invalid(f'aggregate of "{name}": {parts[0] if parts else "nothing"} is not known for this column.')
    if len(parts) - 1 != arities[parts[0]]:
        raise Invalid(f'aggregate of "{name}": {parts[0]} needs {arities[parts[0]]} more columns.')
    for other in parts[1:]:
        known(other, types, f'aggregate of "{name}"')


def check_window(name, window, columns, types):
    what = f'window "{name}"'
    known(window.source, types, what)
    if window.op not in WINDOWS:
        raise Invalid(f"{what}: {window.op or 'nothing'} is not known.")
    for other in [*window.partition_by, *([window.order_by.column] if window.HasField("order_by") else [])]:
        known(other, columns, what)


def known(name, types, what):
    if name not in types:
        raise Invalid(f'{what}: there is no column "{name}".')
    return types[name]
