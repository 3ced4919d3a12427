"""taosAdapter's part that speaks HTTP: POST /rest/sql[/DATABASE], SQL in the body, Basic authentication, JSON back.

Each request stands alone, as with taosAdapter: `USE` is forgotten, the database comes with the address. An error comes
with HTTP status 200 and its code in the JSON; 400 and 401 are for requests without SQL or without a user.
"""

import asyncio
import base64
import binascii
import json

import numpy as np
import tornado.web

from .connection import as_tdengine_error, check_user
from .select import Result
from .session import Session
from .types import FLOAT, NCHAR, TIMESTAMP, VARBINARY, TDengineError

NO_AUTHORIZATION, INVALID_TYPE, INVALID_BASIC = 0x1105, 0x1122, 0x1124
NO_BODY, NO_SQL = 0x1106, 0x1107
PRECISIONS = ("ms", "us", "ns")


class BadRequest(TDengineError):
    """What taosAdapter refuses before TDengine sees it: with an HTTP status other than 200."""

    def __init__(self, status, code, message):
        super().__init__(code, message)
        self.status = status


def user_of(header):
    """(user, password) in the header Authorization; BadRequest when there are none."""
    if not header:
        raise BadRequest(401, NO_AUTHORIZATION, "no auth info input")
    kind, _, text = header.strip().partition(" ")
    if kind != "Basic":
        raise BadRequest(401, INVALID_TYPE, "invalid type of Authorization (the stand-in for TDengine knows Basic)")
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    if not user or not password:
        raise BadRequest(401, INVALID_BASIC, "invalid basic Authorization")
    return user, password


def json_value(value, column, precision):
    """A value of a result as json.dumps takes it."""
    if value is None or column.type is NCHAR:
        return value
    if column.type is TIMESTAMP:
        unit = PRECISIONS[precision]
        return f"{np.datetime_as_string(np.datetime64(value, unit), unit=unit)}Z"
    if isinstance(value, bytes):
        return value.hex() if column.type is VARBINARY else value.decode(errors="replace")
    if column.type is FLOAT:
        return float(str(np.float32(value)))  # the shortest text that stands for the same 32 bits
    return str(value) if column.type.is_decimal else value


def answer_to(outcome):
    """The JSON object for rows affected (int) or a Result."""
    if not isinstance(outcome, Result):
        return {"code": 0, "column_meta": [["affected_rows", "INT", 4]], "data": [[outcome]], "rows": 1}
    meta = [[column.name, column.type_name, column.shown_length] for column in outcome.columns]
    columns = zip(outcome.columns, outcome.values, strict=True)
    values = [[json_value(value, column, outcome.precision) for value in of_column] for column, of_column in columns]
    data = list(zip(*values, strict=True))
    return {"code": 0, "column_meta": meta, "data": data, "rows": len(data)}


class RestHandler(tornado.web.RequestHandler):
    """POST /rest/sql or /rest/sql/DATABASE; without taosAdapter's parameters."""

    def initialize(self, storage, pool, users):
        self.storage, self.pool, self.users = storage, pool, users

    def prepare(self):
        self.clear_header("Server")
        if self.request.method != "POST":
            raise tornado.web.HTTPError(404)

    async def post(self, database=None):
        try:
            text = await asyncio.get_running_loop().run_in_executor(self.pool, self.run, database)
        except Exception as error:  # whatever it is, the client waits for an answer
            error = as_tdengine_error(error)
            self.set_status(error.status if isinstance(error, BadRequest) else 200)
            text = json.dumps({"code": error.code, "desc": error.message})
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(text)

    def run(self, database):
        """In a thread: the request carried out, and its answer as text."""
        user, password = user_of(self.request.headers.get("Authorization"))
        if not self.request.body:
            raise BadRequest(400, NO_BODY, "no msg input")
        sql = self.request.body.decode(errors="surrogateescape").strip()
        if not sql:
            raise BadRequest(400, NO_SQL, "no sql input")
        check_user(self.users, user, password)
        session = Session(self.storage)
        session.database = database if database in self.storage.databases else None
        return json.dumps(answer_to(session.execute(sql)), separators=(",", ":"))
