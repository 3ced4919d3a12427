"""What of Perspective's protocol reaches the engine."""

import subprocess
import sys

import pytest
from helpers import ROOT, python
from wire import encode

from bridge import perspective_pb2 as pb
from bridge import requests
from bridge.requests import Invalid, Refused

HOSTED = b"stock_values"
# Kinds that the engine knows and that viewers may not request: they change or make tables.
DENIED = {"make_table": 27, "table_delete": 28, "table_remove": 31, "table_replace": 32, "table_update": 33}
DENIED |= {"make_join_table": 38}
KINDS = """
import sys, perspective
sys.path.insert(0, "tests")
from wire import encode
known = []
for kind in range(3, 81):
    answers = []
    session = perspective.Server().new_session(answers.append)
    session.handle_request(encode((1, 1), (2, b"nothing"), (kind, b"")))
    if not any(b"Unhandled request type" in answer for answer in answers):
        known.append(kind)
    session.close()
print(known)
"""


def numbers():
    return {field.name: field.number for field in pb.Envelope.DESCRIPTOR.oneofs_by_name["kind"].fields}


def test_the_generated_module_is_current(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "bridge", f"--python_out={tmp_path}"]
    subprocess.run([*command, "bridge/perspective.proto"], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "perspective_pb2.py").read_text() == (ROOT / "bridge/perspective_pb2.py").read_text()


def test_each_kind_that_the_engine_knows_is_listed_or_denied():
    done = python("-c", KINDS)
    assert done.returncode == 0, done.stderr
    known = set(map(int, done.stdout.strip().strip("[]").split(",")))
    listed = {number for name, number in numbers().items() if name in requests.KINDS}
    assert known == listed | set(DENIED.values())
    assert numbers().keys() == requests.KINDS.keys() | {"server_error"}


@pytest.mark.parametrize("kind", [*DENIED.values(), 41, 50, 99, 2**29 - 1])
def test_other_kinds_are_refused(kind):
    for body in (b"", encode((1, 0)), encode((1, 0), (2, encode((1, b"ticker\nX"))))):
        with pytest.raises(Refused):
            requests.parse(encode((1, 1), (2, HOSTED), (kind, body)))


def test_a_forbidden_kind_before_after_and_inside_an_allowed_one_is_dropped():
    denied = encode((28, encode((1, 1))))
    head, size = encode((1, 1), (2, HOSTED)), encode((8, b""))
    inside = encode((1, 1), (2, HOSTED), (8, denied))
    for message in (denied + head + size, head + denied + size, head + size + denied, inside):
        request = requests.parse(message)
        assert (request.kind, request.entity, request.number) == ("table_size", HOSTED.decode(), 1)
        assert requests.encode(request.content) == b""
        assert requests.reply(1, request.entity, request.kind, b"") == head + size


def test_unknown_fields_of_what_is_looked_into_are_dropped():
    config = encode((1, b"ticker"), (99, b"x" * 1000), (4, encode((1, b"open"), (2, b"is null"), (77, 5))))
    request = requests.parse(encode((1, 1), (2, HOSTED), (6, encode((1, b"name"), (2, config), (3, b"more")))))
    assert request.content == pb.MakeView(
        view_id="name",
        config=pb.ViewConfig(group_by=["ticker"], filter=[pb.ViewConfig.Filter(column="open", op="is null")]),
    )
    assert request.content.ByteSize() < 60


NO_REQUESTS = {
    "no kind": encode((1, 1), (2, HOSTED)),
    "an error": encode((1, 1), (50, b"")),
    "a kind that is no message": encode((1, 1), (2, HOSTED), (28, 1)),
    "a name that is not UTF-8": encode((1, 1), (2, b"\xff\xfe"), (8, b"")),
    "a column that is not UTF-8": encode((1, 1), (2, HOSTED), (6, encode((1, b"name"), (2, encode((1, b"\xff")))))),
    "an expression that is not UTF-8": encode((1, 1), (9, encode((1, encode((1, b"e"), (2, b"\xff")))))),
    "more bytes than there are": encode((1, 1), (2, HOSTED)) + b"\x42\x7f",
    "a length of 2**63": encode((1, 1), (2, HOSTED)) + b"\x42" + b"\xff" * 8 + b"\x7f",
    "a varint without an end": b"\xff" * 64,
    "field number 0": b"\x02\x00" + encode((1, 1), (4, b"")),
    "an unended group": encode((1, 1), (2, HOSTED)) + b"\xe3\x01",
    "a text": encode((1, 1), (2, HOSTED), (4, b"")).decode(),
    "nothing": b"",
    "too many bytes": encode((1, 1), (8, b""), (99, b"x" * requests.MAX_MESSAGE)),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_is_no_request_is_refused(name):
    with pytest.raises(Refused):
        requests.parse(NO_REQUESTS[name])


def test_contents_that_take_too_much_to_describe_are_refused_and_those_below_are_not():
    small, large = (pb.ViewConfig(group_by=["x" * size]) for size in (requests.MAX_CONTENT // 2, requests.MAX_CONTENT))
    requests.check_size(small)
    with pytest.raises(Invalid):
        requests.check_size(large)


def test_what_makes_a_view_of_a_wide_table_may_be_as_large_as_its_names_need_and_nothing_else():
    names = [f"größe_{k}".ljust(60, "x") for k in range(1000)]
    schema = pb.TableSchema(schema=pb.TableSchema.Columns(schema=[pb.TableSchema.Column(name=name) for name in names]))
    room = requests.room_of(schema.SerializeToString())
    config = pb.ViewConfig()
    config.columns.columns.columns.extend(names)
    for name in names:
        config.aggregates[name].aggregations.append("distinct count")
    content = pb.MakeView(view_id="name", config=config)
    message = requests.reply(1, "wide", "table_make_view", content.SerializeToString())
    assert requests.MAX_MESSAGE < len(message) < requests.LONGEST
    assert requests.wide_table(message) == "wide"
    requests.check_size(requests.parse(message, room).content, room)
    with pytest.raises(Refused):
        requests.parse(message)
    with pytest.raises(Invalid):
        requests.check_size(content, room // 4)
    for other in (NO_REQUESTS["too many bytes"], b"\xff" * 70_000, "x" * 70_000):
        with pytest.raises(Refused):
            requests.wide_table(other)


def test_equal_requests_have_equal_digests_whatever_the_order_of_maps():
    one, other = pb.ViewConfig(), pb.ViewConfig()
    for config, names in ((one, "ab"), (other, "ba")):
        for name in names:
            config.expressions[name] = name
    assert requests.digest("kind", requests.encode(one)) == requests.digest("kind", requests.encode(other))
    assert requests.digest("kind", requests.encode(one)) != requests.digest("other", requests.encode(one))
