"""taosAdapter's part: WebSocket connections at /ws, their requests and the replies."""

import concurrent.futures

import tornado.web

from . import protocol
from .connection import Connection, check_user, parse_request, reply
from .errors import STAND_IN, TDengineError, as_tdengine_error
from .insert import PreparedInsert
from .rest import RestHandler
from .select import Result
from .session import Session
from .tmq import Consumer
from .topics import Topics

MAX_MESSAGE = 64 * 2**20  # bytes
PING_S = 54
NO_V1 = f"TaosStmt is not in this {STAND_IN}: use stmt2_statement()"
ACTIONS = ("version", "conn", "stmt2_init", "stmt2_prepare", "stmt2_exec", "stmt2_close")
BINARY_ACTIONS = {protocol.QUERY: "binary_query", protocol.STMT2_BIND: "stmt2_bind"}
LISTS = ("fields_names", "fields_types", "fields_lengths", "fields_precisions", "fields_scales")


class Statements(Connection):
    """One connection at /ws."""

    def initialize(self, **kwargs):
        super().initialize(**kwargs)
        self.session, self.results, self.statements = None, {}, {}
        self.last_result = self.last_statement = 0

    async def respond(self, message):
        action, req_id, extra = "", 0, {}
        try:  # whatever goes wrong, the client waits for a reply
            if isinstance(message, bytes):
                req_id, target, number = protocol.request_head(message)
                if number == protocol.FETCH:
                    return await self.fetch(req_id, target)
                action = BINARY_ACTIONS.get(number, "")
                extra = {"stmt_id": target} if action == "stmt2_bind" else {}
                self.check_connected()
                extra |= await self.do_binary(action, target, message)
            else:
                action, args = parse_request(message)
                req_id, extra = args.get("req_id", 0), {"stmt_id": args["stmt_id"]} if "stmt_id" in args else {}
                if action == "free_result":
                    return self.free_result(args)
                if action not in ACTIONS:
                    raise TDengineError(0xFFFF, NO_V1 if action == "init" else f"unknown action {action}")
                self.check_connected(action in ("version", "conn"))
                extra |= await getattr(self, "do_" + action)(args)
        except ValueError as error:
            return reply(action, req_id, TDengineError(0xFFFF, f"unmarshal request error {error}"), **extra)
        except Exception as error:
            return reply(action, req_id, as_tdengine_error(error), **extra)
        return reply(action, req_id, **extra)

    def check_connected(self, is_first=False):
        if self.session is None and not is_first:
            raise TDengineError(0xFFFF, "server not connected")

    def free_result(self, args):
        self.results.pop(str(args.get("id")), None)

    async def fetch(self, req_id, result_id):
        result, block, error = self.results.get(str(result_id)), None, None
        try:
            if result is None:
                raise TDengineError(0xFFFF, "result is nil" if self.session else "server not connected")
            block = await self.in_thread(result.next_block)
        except Exception as failure:
            error = as_tdengine_error(failure)
        if block is None:
            self.results.pop(str(result_id), None)
        return protocol.fetch_reply(req_id, result_id, block, error)

    # The actions: each gives the fields of its reply

    async def do_binary(self, action, target, message):
        if not action or len(message) > MAX_MESSAGE:
            raise TDengineError(0xFFFF, f"unknown binary action, or more than {MAX_MESSAGE} bytes")
        if action == "stmt2_bind":
            await self.in_thread(bind, self.statement({"stmt_id": target}), message)
            return {}
        outcome = await self.in_thread(self.session.execute, protocol.query_text(message))
        if not isinstance(outcome, Result):
            fields = {"id": 0, "is_update": True, "affected_rows": outcome, "fields_count": 0, "precision": 0}
            return fields | dict.fromkeys(LISTS)
        self.last_result += 1
        self.results[str(self.last_result)] = outcome
        fields = {"id": self.last_result, "is_update": False, "affected_rows": 0, "precision": outcome.precision}
        values = []
        for column in outcome.columns:
            decimal = (column.length, column.scale) if column.is_decimal else (0, 0)
            values.append((column.name, column.type.number, column.type.width or column.length, *decimal))
        fields |= {name: list(of_name) for name, of_name in zip(LISTS, zip(*values, strict=True), strict=True)}
        return fields | {"fields_count": len(values)}

    async def do_conn(self, args):
        if self.session is not None:
            raise TDengineError(0xFFFF, "duplicate connections")
        check_user(self.users, args.get("user"), args.get("password"))
        if args.get("tz") not in (None, "", "UTC", "Etc/UTC"):
            raise TDengineError(0xFFFF, f"invalid timezone: this {STAND_IN} knows UTC only")
        self.session = Session(self.storage, self.storage.database(args["db"]).name if args.get("db") else None)
        return {}

    def statement(self, args, is_prepared=True):
        if str(args.get("stmt_id")) not in self.statements:
            raise TDengineError(0xFFFF, "stmt2 is nil")
        if is_prepared and self.statements[str(args["stmt_id"])] is None:
            raise TDengineError(0x022A, "Stmt API usage error")
        return self.statements[str(args["stmt_id"])]

    async def do_stmt2_init(self, _):
        self.last_statement += 1
        self.statements[str(self.last_statement)] = None
        return {"stmt_id": self.last_statement}

    async def do_stmt2_prepare(self, args):
        self.statement(args, is_prepared=False)
        insert = await self.in_thread(PreparedInsert, self.session, str(args.get("sql")))
        self.statements[str(args["stmt_id"])] = insert
        fields = insert.fields()
        return {"is_insert": True, "fields": fields, "fields_count": len(fields)}

    async def do_stmt2_exec(self, args):
        return {"affected": await self.in_thread(self.statement(args).execute)}

    async def do_stmt2_close(self, args):
        self.statements.pop(str(args.get("stmt_id")), None)
        return {}


def bind(insert, message):
    try:
        for name, tags, arrays in protocol.decode_bind(message, insert.tags, insert.columns):
            insert.bind(name, tags, arrays)
    except Exception as error:
        insert.failed = as_tdengine_error(error)
        raise insert.failed from None


def make_app(storage, users):
    """The Tornado application; its threads end with the process."""
    storage.topics = Topics(storage)
    common = {"storage": storage, "pool": concurrent.futures.ThreadPoolExecutor(8, "request"), "users": users}
    return tornado.web.Application(
        [("/ws", Statements, common), ("/rest/tmq", Consumer, common), (r"/rest/sql(?:/(\w+))?", RestHandler, common)],
        websocket_max_message_size=2 * MAX_MESSAGE,
        websocket_ping_interval=PING_S,
    )
