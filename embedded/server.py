"""taosAdapter's part: WebSocket connections at /ws, their requests and the replies; /rest/tmq is in tmq.py."""

import concurrent.futures
import functools
import hmac
import json
import logging
import time
import zoneinfo

import duckdb
import tornado.web

from . import protocol, tmq
from .connection import Connection
from .engine import Result, Session
from .rest import RestHandler
from .statements import PreparedInsert, StatementV1
from .types import TDengineError

VERSION = "3.3.6.6.stand-in"  # taosws asks for 3.3.2.0 or newer
MAX_MESSAGE = 64 * 2**20  # bytes
PING_S = 54
SAME_LINE_S = 60


class Log:
    """The log, where a failure that happens again and again is told once a minute."""

    def __init__(self):
        self.told = {}

    def error(self, text, detail=""):
        now = time.monotonic()
        self.told = {old: when for old, when in self.told.items() if now - when < SAME_LINE_S}
        if text not in self.told and len(self.told) < 100:
            self.told[text] = now
            logging.getLogger("embedded").error("%s%s", text, detail)


LOG = Log()


def as_tdengine_error(error):
    """What a failure inside is told as: one to write with TDengine's code, anything else with taosAdapter's own."""
    if isinstance(error, TDengineError):
        return error
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, (duckdb.IOException, duckdb.FatalException, OSError)) or "Could not write" in text:
        LOG.error("the data folder cannot be written, is the disk full? The stand-in tries on", f": {text}")
        return TDengineError(0x020D, f"System out of disk space: the stand-in for TDengine cannot write ({text})")
    LOG.error(text)
    return TDengineError(0xFFFF, f"the stand-in for TDengine failed: {text}")


class Statements(Connection):
    """One connection at /ws."""

    def initialize(self, storage, pool, users):
        super().initialize(pool)
        self.storage, self.users = storage, users
        self.session = None
        self.results, self.v1, self.v2 = {}, {}, {}
        self.last_result = self.last_v1 = self.last_v2 = 0

    async def respond(self, message):
        return await (self.answer_text(message) if isinstance(message, str) else self.answer_binary(message))

    def on_close(self):
        for result in self.results.values():
            result.close()
        self.results = {}

    # JSON requests

    async def answer_text(self, message):
        started = time.perf_counter_ns()
        try:
            action, args = parse_request(message)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self.reply("", {}, started, TDengineError(0xFFFF, "unmarshal request error"))
        if action == "free_result":
            result = self.results.pop(args.get("id"), None)
            if result is not None:
                result.close()
            return None
        extra = {"stmt_id": args["stmt_id"]} if action != "init" and "stmt_id" in args else {}
        try:
            if action not in ACTIONS:
                raise TDengineError(0xFFFF, f"unknown action {action}")
            if self.session is None and action not in ("version", "conn"):
                raise TDengineError(0xFFFF, "server not connected")
            extra |= await getattr(self, "do_" + action)(args)
            return self.reply(action, args, started, **extra)
        except Exception as error:  # whatever it is, the client waits for a reply
            if action == "prepare":
                extra["is_insert"] = False
            return self.reply(action, args, started, as_tdengine_error(error), **extra)

    def reply(self, action, args, started, error=None, **extra):
        return json.dumps(
            {
                "code": error.code if error else 0,
                "message": error.message if error else "",
                "action": action,
                "req_id": args.get("req_id", 0),
                "timing": time.perf_counter_ns() - started,
                **extra,
            },
            separators=(",", ":"),
        )

    async def do_version(self, _):
        return {"version": VERSION}

    async def do_conn(self, args):
        if self.session is not None:
            raise TDengineError(0xFFFF, "duplicate connections")
        check_user(self.users, args.get("user"), args.get("password"))
        session = Session(self.storage)
        if args.get("db"):
            self.storage.database(args["db"])
            session.database = args["db"]
        if args.get("tz"):
            try:
                session.zone = zoneinfo.ZoneInfo(args["tz"])
            except (OSError, ValueError, KeyError):
                raise TDengineError(0xFFFF, f"invalid timezone: {args['tz']}") from None
        self.session = session
        return {}

    # Prepared statements, v1

    def statement_v1(self, args):
        found = self.v1.get(args.get("stmt_id"))
        if found is None:
            raise TDengineError(0xFFFF, "stmt is nil")
        return found

    async def do_init(self, _):
        self.last_v1 += 1
        self.v1[self.last_v1] = StatementV1(self.session)
        return {"stmt_id": self.last_v1}

    async def do_prepare(self, args):
        return {"is_insert": self.statement_v1(args).prepare(args.get("sql") or "")}

    async def do_set_table_name(self, args):
        self.statement_v1(args).name = args.get("name")
        return {}

    async def do_set_tags(self, args):
        await self.in_thread(self.statement_v1(args).set_tags, args.get("tags"))
        return {}

    async def do_add_batch(self, args):
        self.statement_v1(args).add_batch()
        return {}

    async def do_exec(self, args):
        return {"affected": await self.in_thread(self.statement_v1(args).execute)}

    # Prepared statements, v2

    def statement_v2(self, args):
        stmt_id = args.get("stmt_id")
        if stmt_id not in self.v2:
            raise TDengineError(0xFFFF, "stmt2 is nil")
        if self.v2[stmt_id] is None:
            raise TDengineError(0x022A, "Stmt API usage error")
        return self.v2[stmt_id]

    async def do_stmt2_init(self, _):
        self.last_v2 += 1
        self.v2[self.last_v2] = None
        return {"stmt_id": self.last_v2}

    async def do_stmt2_prepare(self, args):
        if args.get("stmt_id") not in self.v2:
            raise TDengineError(0xFFFF, "stmt2 is nil")
        try:
            insert = await self.in_thread(PreparedInsert, self.session, args.get("sql") or "")
        except TDengineError as error:
            if error.code == 0x2603:
                raise TDengineError(0x022B, error.message) from None
            raise
        self.v2[args["stmt_id"]] = insert
        fields = insert.fields()
        return {"is_insert": True, "fields": fields, "fields_count": len(fields)}

    async def do_stmt2_exec(self, args):
        return {"affected": await self.in_thread(self.statement_v2(args).execute)}

    async def do_stmt2_result(self, args):
        self.statement_v2(args)
        raise TDengineError(0x022A, "Stmt API usage error")

    async def do_stmt2_close(self, args):
        self.v2.pop(args.get("stmt_id"), None)
        return {}

    # Binary requests

    async def answer_binary(self, message):
        started = time.perf_counter_ns()
        try:
            req_id, target, action = protocol.request_head(message)
        except TDengineError as error:
            return self.reply("", {}, started, error)
        if action == protocol.FETCH:
            return await self.fetch(req_id, target, started)
        names = {protocol.QUERY: "binary_query", protocol.BIND: "bind", protocol.STMT2_BIND: "stmt2_bind"}
        name = names.get(action)
        extra = {} if name in (None, "binary_query") else {"stmt_id": target}
        try:
            if name is None:
                raise TDengineError(0xFFFF, f"unknown binary action {action}")
            if self.session is None:
                raise TDengineError(0xFFFF, "server not connected")
            if len(message) > MAX_MESSAGE:
                raise TDengineError(0xFFFF, f"message of more than {MAX_MESSAGE} bytes (stand-in for TDengine)")
            if name == "binary_query":
                extra = self.query_fields(await self.in_thread(self.run_query, message))
            elif name == "bind":
                statement = self.statement_v1({"stmt_id": target})
                await self.in_thread(statement.bind, lambda columns: protocol.decode_v1_bind(message, columns))
            else:
                await self.in_thread(self.bind_v2, self.statement_v2({"stmt_id": target}), message)
            return self.reply(name, {"req_id": req_id}, started, **extra)
        except Exception as error:  # whatever it is, the client waits for a reply
            return self.reply(name or "", {"req_id": req_id}, started, as_tdengine_error(error), **extra)

    def run_query(self, message):
        return self.session.execute(protocol.query_text(message))

    def bind_v2(self, insert, message):
        try:
            for name, tags, arrays in protocol.decode_stmt2_bind(message, insert.tag_columns, insert.columns):
                insert.bind(name, tags, arrays)
        except Exception as error:
            insert.failed = as_tdengine_error(error)
            raise insert.failed from None

    def query_fields(self, outcome):
        """The reply's fields to a query: rows affected, or a result to be fetched."""
        if not isinstance(outcome, Result):
            return {
                "id": 0,
                "is_update": True,
                "affected_rows": outcome,
                "fields_count": 0,
                "fields_names": None,
                "fields_types": None,
                "fields_lengths": None,
                "precision": 0,
                "fields_precisions": None,
                "fields_scales": None,
            }
        self.last_result += 1
        self.results[self.last_result] = outcome
        zeros = [0] * len(outcome.columns)
        return {
            "id": self.last_result,
            "is_update": False,
            "affected_rows": 0,
            "fields_count": len(outcome.columns),
            "fields_names": [column.name for column in outcome.columns],
            "fields_types": [column.type.number for column in outcome.columns],
            "fields_lengths": [column.shown_length for column in outcome.columns],
            "precision": outcome.precision,
            "fields_precisions": zeros,
            "fields_scales": zeros,
        }

    async def fetch(self, req_id, result_id, started):
        block = error = None
        result = self.results.get(result_id)
        if result is None:
            error = TDengineError(0xFFFF, "result is nil" if self.session else "server not connected")
        else:
            try:
                block = result.first if result.first is not None else await self.in_thread(result.next_block)
                result.first = None
            except Exception as failure:  # the client waits for a reply
                error = as_tdengine_error(failure)
        if block is None and result is not None:
            self.results.pop(result_id, None)
            result.close()
        return protocol.fetch_reply(req_id, result_id, time.perf_counter_ns() - started, block, error)


def parse_request(message):
    """(action, args) of a JSON request; numbers in it are in range, texts are text. Any of several errors otherwise."""
    request = json.loads(message)
    action, args = request["action"], request.get("args") or {}
    if not isinstance(action, str) or not isinstance(args, dict):
        raise TypeError
    for name in ("req_id", "stmt_id", "id"):
        if name in args and (type(args[name]) is not int or not 0 <= args[name] < 2**64):
            raise TypeError
    for name in ("user", "password", "db", "tz", "sql", "name"):
        if args.get(name) is not None and not isinstance(args[name], str):
            raise TypeError
    json.dumps(request, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return action, args


# Names of methods after "do_": a request for anything else is refused.
ACTIONS = frozenset(name[3:] for name in vars(Statements) if name.startswith("do_"))


def check_user(users, user, password):
    """users: {name: password}. TDengineError unless they match."""
    if user not in users:
        raise TDengineError(0x0351, "Invalid user")
    if not hmac.compare_digest((password or "").encode(), users[user].encode()):
        raise TDengineError(0x0357, "Authentication failure")


def make_app(storage, users):
    """The Tornado application; its threads end with the process."""
    pool = concurrent.futures.ThreadPoolExecutor(8, "request")
    common = {"storage": storage, "pool": pool, "users": users}
    storage.topics = tmq.Topics(storage)
    subscription = {"topics": storage.topics, "pool": pool, "check_user": functools.partial(check_user, users)}
    return tornado.web.Application(
        [
            ("/ws", Statements, common),
            ("/rest/tmq", tmq.Consumer, {**subscription, "version": VERSION}),
            (r"/rest/sql(?:/(\w+))?", RestHandler, common | {"check": check_user, "explain": as_tdengine_error}),
        ],
        websocket_max_message_size=2 * MAX_MESSAGE,
        websocket_ping_interval=PING_S,
    )
