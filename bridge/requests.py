"""What a viewer may request, by Perspective's protocol: to look at tables and views, and nothing else.

    request = parse(message)      Refused: what no viewer of ours sends; Invalid: an error to answer the request with

Only what the messages in perspective.proto declare is handed on: everything else in a message is dropped.
"""

import dataclasses
import hashlib

from google.protobuf.message import DecodeError, Message

from . import perspective_pb2 as pb

MAX_MESSAGE = 64 * 1024  # bytes of one request, with everything that is dropped
MAX_CONTENT = 16 * 1024  # bytes of what is in it, as a view's config: both and more for a view of a wide table
LONGEST = 256 * 1024  # bytes of any message
MAX_EXPRESSIONS = 8 * 1024  # bytes of all expressions of a request

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


def parse(message, room=0):
    """The Request in the bytes of a message; `room`: bytes that it may have beyond MAX_MESSAGE."""
    if not isinstance(message, bytes):
        raise Refused("a text message")
    if len(message) > MAX_MESSAGE + room:
        raise Refused(f"a request of more than {MAX_MESSAGE + room} bytes")
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


def wide_table(message):
    """The table of a message of more than MAX_MESSAGE bytes, which only what makes a view of a wide one may have."""
    try:
        envelope = pb.Envelope.FromString(message) if isinstance(message, bytes) else pb.Envelope()
    except DecodeError:
        raise Refused("not a request of Perspective's") from None
    if envelope.WhichOneof("kind") != "table_make_view":
        raise Refused(f"a request of more than {MAX_MESSAGE} bytes")
    return envelope.entity_id


def room_of(schema):
    """Bytes that a view of all columns may take to describe, by those of the answer to table_schema.

    The viewer names each column twice: as shown, and with its aggregate.
    """
    return 4 * len(schema)


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


def is_large(content):
    return content.ByteSize() > MAX_CONTENT


def check_size(content, room=0):
    if content.ByteSize() > MAX_CONTENT + room:
        raise Invalid(f"This takes {content.ByteSize()} bytes to describe, more than {MAX_CONTENT + room}.")
