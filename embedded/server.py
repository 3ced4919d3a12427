"""taosAdapter's part: WebSocket connections at /ws, which query and insert."""

import asyncio
import itertools

import tornado.web

from . import protocol
from .connection import Connection, check_user
from .errors import FAILED, STAND_IN, refuse
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
        self.result_ids, self.statement_ids = itertools.count(1), itertools.count(1)

    def check(self, action):
        refuse(self.session is None and action not in ("version", "conn"), FAILED, "server not connected")

    async def do_conn(self, args):
        refuse(self.session is not None, FAILED, "duplicate connections")
        check_user(self.users, args.get("user"), args.get("password"))
        refuse(args.get("tz") not in (None, "", "UTC", "Etc/UTC"), FAILED, f"this {STAND_IN} knows UTC only")
        self.session = Session(self.storage, self.storage.database(args["db"]).name if args.get("db") else None)
        return {}

    async def do_binary_query(self, args):
        outcome = await asyncio.to_thread(self.session.execute, protocol.query_text(args["message"]))
        if not isinstance(outcome, Result):
            fields = {"id": 0, "is_update": True, "affected_rows": outcome, "fields_count": 0, "precision": 0}
            return fields | dict.fromkeys(FIELDS)
        number = next(self.result_ids)
        self.results[number] = outcome
        fields = {"id": number, "is_update": False, "affected_rows": 0, "precision": outcome.precision}
        listed = zip(*(column.fields() for column in outcome.columns), strict=True)
        return fields | {"fields_count": len(outcome.columns)} | dict(zip(FIELDS, map(list, listed), strict=True))

    async def do_fetch(self, args):
        result = self.results.get(args["id"])
        refuse(result is None, FAILED, "result is nil")
        block = result.next_block()  # of few rows: a thread would cost more
        if block is None:
            self.results.pop(args["id"], None)
        return protocol.fetch_reply(args["req_id"], args["id"], block)

    async def do_free_result(self, args):
        self.results.pop(args.get("id"), None)

    async def do_stmt2_init(self, _):
        number = next(self.statement_ids)
        self.statements[number] = None  # until it is prepared
        return {"stmt_id": number}

    async def do_stmt2_prepare(self, args):
        refuse(args.get("stmt_id") not in self.statements, FAILED, "stmt2 is nil")
        insert = await asyncio.to_thread(PreparedInsert, self.session, str(args.get("sql")))
        self.statements[args["stmt_id"]] = insert
        fields = insert.fields()
        return {"is_insert": True, "fields": fields, "fields_count": len(fields)}

    async def do_stmt2_bind(self, args):
        await asyncio.to_thread(self.statement(args).bind, args["message"])
        return {}

    async def do_stmt2_exec(self, args):
        return {"affected": await asyncio.to_thread(self.statement(args).execute)}

    async def do_stmt2_close(self, args):
        self.statements.pop(args.get("stmt_id"), None)
        return {}

    def statement(self, args):
        """The PreparedInsert."""
        statement = self.statements.get(args.get("stmt_id"))
        refuse(statement is None, FAILED, "stmt2 is nil")
        return statement


def make_app(storage, users):
    """The Tornado application."""
    storage.topics, common = Topics(storage), {"storage": storage, "users": users}
    return tornado.web.Application(
        [("/ws", Statements, common), ("/rest/tmq", Consumer, common), (r"/rest/sql(?:/(\w+))?", RestHandler, common)],
        websocket_max_message_size=MAX_MESSAGE,
        websocket_ping_interval=PING_S,
    )
