"""taosAdapter's part that speaks HTTP: POST /rest/sql[/DATABASE], SQL in the body, Basic authentication, JSON back.

Each request stands alone: `USE` is forgotten. An error comes with HTTP status 200 and its code in the JSON.
"""

import asyncio
import base64
import json

import numpy as np
import tornado.web

from .connection import check_user
from .errors import as_tdengine_error, refuse
from .select import Result
from .session import Session
from .types import FLOAT, PRECISIONS, TIMESTAMP, VARBINARY

NO_AUTHORIZATION, NO_SQL = 0x1124, 0x1107


def json_value(value, column, precision):
    """A value of a result as json.dumps takes it; most numbers are as they are."""
    if value is None or isinstance(value, str):
        return value
    if column.type is TIMESTAMP:
        return f"{np.datetime64(value, PRECISIONS[precision])}Z"
    if isinstance(value, bytes):
        return value.hex() if column.type is VARBINARY else value.decode(errors="replace")
    if column.type is FLOAT:
        return float(str(np.float32(value)))  # the shortest text that stands for the same 32 bits
    return str(value)  # of a DECIMAL


def json_values(values, column, precision):
    """The same for a column of values."""
    if column.type.dtype and column.type not in (TIMESTAMP, FLOAT):
        return values
    return [json_value(value, column, precision) for value in values]


def answer_to(outcome):
    """The JSON object for rows affected (int) or a Result."""
    if not isinstance(outcome, Result):
        return {"code": 0, "column_meta": [["affected_rows", "INT", 4]], "data": [[outcome]], "rows": 1}
    columns = zip(outcome.columns, outcome.values, strict=True)
    values = [json_values(listed, column, outcome.precision) for column, listed in columns]
    data = list(zip(*values, strict=True))
    meta = [column.described() for column in outcome.columns]
    return {"code": 0, "column_meta": meta, "data": data, "rows": len(data)}


class RestHandler(tornado.web.RequestHandler):
    """POST /rest/sql or /rest/sql/DATABASE; without taosAdapter's parameters."""

    def initialize(self, storage, users):
        self.storage, self.users = storage, users

    async def post(self, database=None):
        try:
            answer = await asyncio.to_thread(self.run, database)
        except Exception as error:  # whatever it is, the client waits for an answer
            error = as_tdengine_error(error)
            self.set_status({NO_AUTHORIZATION: 401, NO_SQL: 400}.get(error.code, 200))
            answer = json.dumps({"code": error.code, "desc": error.message})
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(answer)

    def run(self, database):
        """In a thread: the request carried out, and its answer as text."""
        try:
            kind, text = self.request.headers.get("Authorization", "").split()
            user, password = base64.b64decode(text, validate=True).decode().split(":", 1)
        except ValueError:
            kind = ""
        refuse(kind != "Basic", NO_AUTHORIZATION, "invalid basic Authorization")
        sql = self.request.body.decode(errors="surrogateescape").strip()
        refuse(not sql, NO_SQL, "no sql input")
        check_user(self.users, user, password)
        session = Session(self.storage, database if database in self.storage.databases else None)
        answer = answer_to(session.execute(sql))
        try:
            return json.dumps(answer, separators=(",", ":"), allow_nan=False)
        except ValueError:
            return ""  # as taosAdapter, whose JSON can't hold NaN and infinity either
