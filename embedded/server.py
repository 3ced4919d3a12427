"""taosAdapter's part: WebSocket connections at /ws, their requests and the replies."""

import concurrent.futures
import time

import tornado.web

from . import protocol
from .connection import VERSION, Connection, as_tdengine_error, check_user, parse_request, reply
from .insert import PreparedInsert
from .rest import RestHandler
from .select import Result
from .session import Session
from .tmq import Consumer
from .topics import Topics
from .types import STAND_IN, TDengineError

MAX_MESSAGE = 64 * 2**20  # bytes
PING_S = 54
NO_V1 = f"TaosStmt is not in this {STAND_IN}: use stmt2_statement()"


class Statements(Connection):
    """One connection at /ws."""

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.session, self.results, self.statements = None, {}, {}
        self.last_result = self.last_statement = 0

    def on_close(self):
        self.results = {}

    async def respond(self, message):
        started = time.perf_counter_ns()
        if isinstance(message, bytes):
            return await self.respond_binary(message, started)
        try:
            action, args = parse_request(message)
        except ValueError:
            return reply("", 0, started, TDengineError(0xFFFF, "unmarshal request error"))
        if action == "free_result":
            self.results.pop(args.get("id"), None)
            return None
        extra = {"stmt_id": args["stmt_id"]} if "stmt_id" in args else {}
        try:
            if action not in ACTIONS:
                raise TDengineError(0xFFFF, NO_V1 if action == "init" else f"unknown action {action}")
            self.check_connected(action in ("version", "conn"))
            return reply(action, args.get("req_id", 0), started, **extra | await getattr(self, "do_" + action)(args))
        except Exception as error:  # whatever it is, the client waits for a reply
            return reply(action, args.get("req_id", 0), started, as_tdengine_error(error), **extra)

    def check_connected(self, otherwise=False):
        if self.session is None and not otherwise:
            raise TDengineError(0xFFFF, "server not connected")

    # The actions: each gives the fields of its reply

    async def do_version(self, _):
        return {"version": VERSION}

    async def do_conn(self, args):
        if self.session is not None:
            raise TDengineError(0xFFFF, "duplicate connections")
        check_user(self.users, args.get("user"), args.get("password"))
        if args.get("tz") not in (None, "", "UTC", "Etc/UTC"):
            raise TDengineError(0xFFFF, f"invalid timezone: this {STAND_IN} knows UTC only")
        session = Session(self.storage)
        if args.get("db"):
            session.database = self.storage.database(args["db"]).name
        self.session = session
        return {}

    def statement(self, args):
        stmt_id = args.get("stmt_id")
        if stmt_id not in self.statements:
            raise TDengineError(0xFFFF, "stmt2 is nil")
        if self.statements[stmt_id] is None:
            raise TDengineError(0x022A, "Stmt API usage error")
        return self.statements[stmt_id]

    async def do_stmt2_init(self, _):
        self.last_statement += 1
        self.statements[self.last_statement] = None
        return {"stmt_id": self.last_statement}

    async def do_stmt2_prepare(self, args):
        if args.get("stmt_id") not in self.statements:
            raise TDengineError(0xFFFF, "stmt2 is nil")
        insert = await self.in_thread(PreparedInsert, self.session, args.get("sql") or "")
        self.statements[args["stmt_id"]] = insert
        fields = insert.fields()
        return {"is_insert": True, "fields": fields, "fields_count": len(fields)}

    async def do_stmt2_exec(self, args):
        return {"affected": await self.in_thread(self.statement(args).execute)}

    async def do_stmt2_close(self, args):
        self.statements.pop(args.get("stmt_id"), None)
        return {}

    # Binary requests

    async def respond_binary(self, message, started):
        try:
            req_id, target, action = protocol.request_head(message)
        except TDengineError as error:
            return reply("", 0, started, error)
        if action == protocol.FETCH:
            return await self.fetch(req_id, target)
        name = {protocol.QUERY: "binary_query", protocol.STMT2_BIND: "stmt2_bind"}.get(action, "")
        extra = {"stmt_id": target} if name == "stmt2_bind" else {}
        try:
            self.check_connected()
            if not name or len(message) > MAX_MESSAGE:
                raise TDengineError(0xFFFF, f"unknown binary action {action}, or more than {MAX_MESSAGE} bytes")
            if name == "stmt2_bind":
                await self.in_thread(bind, self.statement({"stmt_id": target}), message)
            else:
                extra = self.query_fields(await self.in_thread(self.session.execute, protocol.query_text(message)))
            return reply(name, req_id, started, **extra)
        except Exception as error:  # whatever it is, the client waits for a reply
            return reply(name, req_id, started, as_tdengine_error(error), **extra)

    def query_fields(self, outcome):
        """The reply's fields to a query: rows affected, or a result to be fetched."""
        names = ("fields_names", "fields_types", "fields_lengths", "fields_precisions", "fields_scales")
        fields = {"id": 0, "is_update": True, "affected_rows": outcome, "fields_count": 0, "precision": 0}
        if not isinstance(outcome, Result):
            return fields | dict.fromkeys(names)
        self.last_result += 1
        self.results[self.last_result] = outcome
        columns = outcome.columns
        fields |= {"id": self.last_result, "is_update": False, "affected_rows": 0, "precision": outcome.precision}
        decimals = [(c.length, c.scale) if c.type.is_decimal else (0, 0) for c in columns]
        values = [
            (c.name, c.type.number, c.shown_length, *decimal) for c, decimal in zip(columns, decimals, strict=True)
        ]
        return fields | {
            "fields_count": len(columns),
            **dict(zip(names, map(list, zip(*values, strict=True)), strict=True)),
        }

    async def fetch(self, req_id, result_id):
        block = error = None
        result = self.results.get(result_id)
        if result is None:
            error = TDengineError(0xFFFF, "result is nil" if self.session else "server not connected")
        else:
            block = await self.in_thread(result.next_block)
        if block is None:
            self.results.pop(result_id, None)
        return protocol.fetch_reply(req_id, result_id, block, error)


def bind(insert, message):
    try:
        for name, tags, arrays in protocol.decode_bind(message, insert.tags, insert.columns):
            insert.bind(name, tags, arrays)
    except Exception as error:
        insert.failed = as_tdengine_error(error)
        raise insert.failed from None


# Names of methods after "do_": a request for anything else is refused.
ACTIONS = frozenset(name[3:] for name in vars(Statements) if name.startswith("do_"))


def make_app(storage, users):
    """The Tornado application; its threads end with the process."""
    storage.topics = Topics(storage)
    common = {"storage": storage, "pool": concurrent.futures.ThreadPoolExecutor(8, "request"), "users": users}
    return tornado.web.Application(
        [("/ws", Statements, common), ("/rest/tmq", Consumer, common), (r"/rest/sql(?:/(\w+))?", RestHandler, common)],
        websocket_max_message_size=2 * MAX_MESSAGE,
        websocket_ping_interval=PING_S,
    )
