"""What a viewer may request, by Perspective's protocol: to look at tables and views, and nothing else.

    request = parse(message)      Refused: what no viewer of ours sends; Invalid: an error to answer the request with
    check_config(request.content.config, types)

Only what the messages in perspective.proto declare is handed on: everything else in a message is dropped.
"""

import dataclasses
import hashlib

from google.protobuf.message import DecodeError, Message

from . import perspective_pb2 as pb

MAX_MESSAGE = 64 * 1024  # bytes of one request, with everything that is dropped
MAX_CONTENT = 16 * 1024  # bytes of what is in it, as a view's config
MAX_EXPRESSIONS = 8 * 1024  # bytes of all expressions of a request
MAX_LEVELS = 8  # of groups, and of splits
MAX_ITEMS = 100  # columns, filters, sorts, aggregates, expressions, windows: of each

# The kinds, with what is in them
READS = {
    "view_to_columns_string": pb.ReadText,
    "view_to_rows_string": pb.ReadText,
    "view_to_ndjson_string": pb.ReadText,
    "view_to_csv": pb.ReadCsv,
    "view_to_arrow": pb.ReadArrow,
}
TOGGLES = {"view_collapse": pb.Row, "view_expand": pb.Row, "view_set_depth": pb.Depth}
SUBSCRIBE = {
    "view_on_update": pb.OnUpdate,
    "view_on_delete": pb.Nothing,
    "view_on_remove": pb.Nothing,
    "table_on_delete": pb.Nothing,
}
UNSUBSCRIBE = dict.fromkeys(
    [
        "view_remove_on_update",
        "view_remove_delete",
        "view_remove_on_remove",
        "table_remove_delete",
        "remove_hosted_tables_update",
    ],
    pb.Subscription,
)
OF_VIEWS = {
    "view_column_paths": pb.ColumnPaths,
    "view_get_min_max": pb.Column,
    **dict.fromkeys(
        ["view_delete", "view_dimensions", "view_expression_schema", "view_get_config", "view_schema"], pb.Nothing
    ),
}
KINDS = {
    "get_hosted_tables": pb.HostedTables,
    "table_make_view": pb.MakeView,
    "table_validate_expr": pb.Expressions,
    **dict.fromkeys(
        ["get_features", "server_system_info", "table_make_port", "table_schema", "table_size"], pb.Nothing
    ),
    **READS,
    **TOGGLES,
    **SUBSCRIBE,
    **UNSUBSCRIBE,
    **OF_VIEWS,
}

YEAR_9999_MS = 253_402_300_799_000  # since 1970
COLUMN_SORTS = [pb.ViewConfig.COL_ASC, pb.ViewConfig.COL_DESC, pb.ViewConfig.COL_ASC_ABS, pb.ViewConfig.COL_DESC_ABS]
NULL_FILTERS = {"is null", "is not null"}
LIST_FILTERS = {"in", "not in"}
WINDOWS = "sum avg count min max stddev var lag lead diff rate ema".split()


class Refused(Exception):
    """What no viewer of ours sends: the connection is closed."""


class Invalid(Exception):
    """Why a request can't be answered, in words for the user who made it; the connection stays."""


class ViewNotFound(Invalid):
    """A request about a view that the viewer doesn't have."""


@dataclasses.dataclass(slots=True)
class Request:
    number: int
    kind: str
    entity: str  # the table or view
    content: Message


def parse(message):
    """The Request in the bytes of a message."""
    if not isinstance(message, bytes):
        raise Refused("a text message")
    if len(message) > MAX_MESSAGE:
        raise Refused(f"a request of more than {MAX_MESSAGE} bytes")
    try:
        envelope = pb.Envelope.FromString(message)
        kind = envelope.WhichOneof("kind")
        if kind not in KINDS:
            raise Refused("a request of a kind that viewers don't send")
        content = KINDS[kind].FromString(getattr(envelope, kind))
    except DecodeError:
        raise Refused("not a request of Perspective's") from None
    content.DiscardUnknownFields()
    return Request(envelope.msg_id, kind, envelope.entity_id, content)


def reply(number, entity, kind, body):
    """The bytes of a response whose content is `body`, bytes."""
    return pb.Envelope(msg_id=number, entity_id=entity, **{kind: body}).SerializeToString()


def head(number, entity):
    """The beginning of a response; the bytes of `tail` may follow."""
    return pb.Envelope(msg_id=number, entity_id=entity).SerializeToString()


def tail(kind, body):
    """The end of a response, the same for everyone who gets this answer."""
    return pb.Envelope(**{kind: body}).SerializeToString()


def error(reason):
    """The tail of a response that says why there is no other; `reason` is an Invalid."""
    code = pb.VIEW_NOT_FOUND if isinstance(reason, ViewNotFound) else pb.SERVER_ERROR
    return tail("server_error", pb.ServerError(message=str(reason), status_code=code).SerializeToString())


def encode(content):
    """Equal contents as equal bytes, whatever the order of maps was."""
    return content.SerializeToString(deterministic=True)


def digest(kind, *parts):
    """Identifies a request by its kind and what is in it, without numbers and names."""
    return hashlib.blake2b(b"\0".join([kind.encode(), *parts]), digest_size=16).digest()


def describe(content):
    """What is worth a line in the log: expressions and filters."""
    config = content.config if isinstance(content, pb.MakeView) else content
    expressions = getattr(config, "expressions", None) or getattr(config, "column_to_expr", None) or {}
    filters = [f"{each.column} {each.op}" for each in getattr(config, "filter", [])]
    return "; ".join([*map(repr, expressions.values()), *filters])


class Features:
    """Which filters and aggregates the engine knows for each type of column."""

    def __init__(self, body):
        features = pb.Features.FromString(body)
        self.filters = {kind: set(ops.options) for kind, ops in features.filter_ops.items()}
        self.aggregates = {
            kind: {each.name: len(each.args) for each in found.aggregates}
            for kind, found in features.aggregates.items()
        }


def check_size(content):
    if content.ByteSize() > MAX_CONTENT:
        raise Invalid(f"This takes {content.ByteSize()} bytes to describe, more than {MAX_CONTENT}.")


def known(name, types, what):
    if name not in types:
        raise Invalid(f'{what}: there is no column "{name}".')
    return types[name]


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
    for what in ("filter", "sort", "expressions", "aggregates", "windows"):
        if len(getattr(config, what)) > MAX_ITEMS:
            raise Invalid(f"{what}: at most {MAX_ITEMS}.")
    for name, window in config.windows.items():
        if name in types or not name:
            raise Invalid(f'window "{name}": there is a column of this name.')
        check_window(name, window, columns, types)
    types = types | dict.fromkeys(config.windows, pb.FLOAT)
    if len(config.columns.columns.columns) > MAX_ITEMS:
        raise Invalid(f"columns: at most {MAX_ITEMS}.")
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
        else:  # of an expression that was deleted
            del config.aggregates[name]


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
