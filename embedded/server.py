"""taosAdapter's part: WebSocket connections at /ws, which query and insert."""

import concurrent.futures

import tornado.web

from . import protocol
from .connection import Connection, check_user
from .errors import FAILED, STAND_IN, TDengineError, as_tdengine_error
from .insert import PreparedInsert
from .rest import RestHandler
from .select import Result
from .session import Session
from .tmq import Consumer, Topics

MAX_MESSAGE = 64 * 2**20  # bytes
PING_S = 54
FIELDS = ("fields_names", "fields_types", "fields_lengths", "fields_precisions", "fields_scales")


class Statements(Connection):
    """One connection at /ws. Results and statements have numbers, which the client names as it likes."""

    ACTIONS = ("version", "conn", "binary_query", "fetch", "free_result")
    ACTIONS += ("stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec", "stmt2_close")

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.session, self.results, self.statements = None, {}, {}
        self.last_result = self.last_statement = 0

    def check(self, action):
        if self.session is None and action not in ("version", "conn", "fetch"):
            raise TDengineError(FAILED, "server not connected")

    def always(self, action, args):
        """Fields of a reply, also of an error."""
        return {"stmt_id": args["stmt_id"]} if "stmt_id" in args else {}

    async def do_conn(self, args):
        if self.session is not None:
            raise TDengineError(FAILED, "duplicate connections")
        check_user(self.users, args.get("user"), args.get("password"))
        if args.get("tz") not in (None, "", "UTC", "Etc/UTC"):
            raise TDengineError(FAILED, f"invalid timezone: this {STAND_IN} knows UTC only")
        self.session = Session(self.storage, self.storage.database(args["db"]).name if args.get("db") else None)
        return {}

    async def do_binary_query(self, args):
        outcome = await self.in_thread(self.session.execute, protocol.query_text(args["message"]))
        if not isinstance(outcome, Result):
            fields = {"id": 0, "is_update": True, "affected_rows": outcome, "fields_count": 0, "precision": 0}
            return fields | dict.fromkeys(FIELDS)
        self.last_result += 1
        self.results[str(self.last_result)] = outcome
        fields = {"id": self.last_result, "is_update": False, "affected_rows": 0, "precision": outcome.precision}
        listed = zip(*(column.fields() for column in outcome.columns), strict=True)
        return fields | {"fields_count": len(outcome.columns)} | dict(zip(FIELDS, map(list, listed), strict=True))

    async def do_fetch(self, args):
        result, block, error = self.results.get(str(args["id"])), None, None
        try:
            if result is None:
                raise TDengineError(FAILED, "result is nil" if self.session else "server not connected")
            block = await self.in_thread(result.next_block)
        except Exception as failure:
            error = as_tdengine_error(failure)
        if block is None:
            self.results.pop(str(args["id"]), None)
        return protocol.fetch_reply(args["req_id"], args["id"], block, error)

    async def do_free_result(self, args):
        self.results.pop(str(args.get("id")), None)

    async def do_stmt2_init(self, _):
        self.last_statement += 1
        self.statements[str(self.last_statement)] = None  # until it is prepared
        return {"stmt_id": self.last_statement}

    async def do_stmt2_prepare(self, args):
        if str(args.get("stmt_id")) not in self.statements:
            raise TDengineError(FAILED, "stmt2 is nil")
        insert = await self.in_thread(PreparedInsert, self.session, str(args.get("sql")))
        self.statements[str(args["stmt_id"])] = insert
        fields = insert.fields()
        return {"is_insert": True, "fields": fields, "fields_count": len(fields)}

    async def do_stmt2_bind(self, args):
        await self.in_thread(self.statement(args).bind, args["message"])
        return {}

    async def do_stmt2_exec(self, args):
        return {"affected": await self.in_thread(self.statement(args).execute)}

    async def do_stmt2_close(self, args):
        self.statements.pop(str(args.get("stmt_id")), None)
        return {}

    def statement(self, args):
        """The PreparedInsert."""
        statement = self.statements.get(str(args.get("stmt_id")))
        if statement is None:
            raise TDengineError(FAILED, "stmt2 is nil")
        return statement


def make_app(storage, users):
    """The Tornado application; its threads end with the process."""
    storage.topics = Topics(storage)
    common = {"storage": storage, "pool": concurrent.futures.ThreadPoolExecutor(8, "request"), "users": users}
    return tornado.web.Application(
        [("/ws", Statements, common), ("/rest/tmq", Consumer, common), (r"/rest/sql(?:/(\w+))?", RestHandler, common)],
        websocket_max_message_size=MAX_MESSAGE,
        websocket_ping_interval=PING_S,
    )
