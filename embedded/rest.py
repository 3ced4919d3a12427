"""taosAdapter's part that speaks HTTP: POST /rest/sql[/DATABASE], SQL in the body, Basic authentication, JSON back.

Each request stands alone, as with taosAdapter: `USE` is forgotten, the database comes with the address. An error is
told with HTTP status 200 and its code in the JSON; 400 and 401 are for requests without SQL or without a user.
"""

import asyncio
import base64
import binascii
import datetime
import json
import zoneinfo

import numpy as np
import tornado.web

from .engine import Result, Session
from .types import TIMESTAMP, UNITS_PER_S, VARBINARY, TDengineError

NO_AUTHORIZATION, INVALID_TYPE, INVALID_BASIC = 0x1105, 0x1122, 0x1124
NO_BODY, NO_SQL = 0x1106, 0x1107
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


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


def zone_of(name):
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # one that isn't there is a KeyError
        raise BadRequest(400, 0xFFFF, f"unknown time zone {name}") from None


def iso_texts(stamps, precision, zone):
    """Timestamps as RFC 3339 with all digits of the precision; stamps: integers since 1970."""
    digits = len(str(UNITS_PER_S[precision])) - 1
    if zone is datetime.UTC:
        unit = ("ms", "us", "ns")[precision]
        return [f"{text}Z" for text in np.datetime_as_string(stamps.astype(f"datetime64[{unit}]"), unit=unit)]
    texts = []
    for stamp in stamps.tolist():
        seconds, rest = divmod(stamp, UNITS_PER_S[precision])
        moment = (EPOCH + datetime.timedelta(seconds=seconds)).astimezone(zone).isoformat()
        moment = moment.replace("+00:00", "Z")
        texts.append(f"{moment[:19]}.{rest:0{digits}}{moment[19:]}")
    return texts


def json_values(column, array, precision, zone):
    """A column of a result as a list that json.dumps takes."""
    if column.type.width == 0:
        return [value and value.hex() for value in array] if column.type is VARBINARY else list(array)
    plain = np.ma.getdata(array)
    if column.type is TIMESTAMP:
        values = iso_texts(plain, precision, zone)
    elif plain.dtype == np.float32:
        values = [float(str(value)) for value in plain]  # the shortest text that stands for the same 32 bits
    else:
        values = plain.tolist()
    if plain.dtype.kind == "f":
        values = [value if np.isfinite(value) else None for value in values]
    mask = np.ma.getmaskarray(array)
    return [None if hidden else value for value, hidden in zip(values, mask, strict=True)] if mask.any() else values


def answer_to(outcome, zone, with_names):
    """The JSON object for rows affected (int) or a Result; with_names: rows as objects instead of arrays."""
    if not isinstance(outcome, Result):
        names, meta, data = ["affected_rows"], [["affected_rows", "INT", 4]], [[outcome]]
    else:
        columns = outcome.columns
        names = [column.name for column in columns]
        meta = [[column.name, column.type.name, column.shown_length] for column in columns]
        values = [
            json_values(column, array, outcome.precision, zone)
            for column, array in zip(columns, outcome.arrays, strict=True)
        ]
        data = list(zip(*values, strict=True))
    if with_names:
        data = [dict(zip(names, row, strict=True)) for row in data]
    return {"code": 0, "column_meta": meta, "data": data, "rows": len(data)}


class WholeResults(Session):
    """A session whose results are not read piece by piece: one JSON text holds all of it anyway."""

    def plan_select(self, statement, parser):
        plan = super().plan_select(statement, parser)
        plan.rows_at_most = 0  # as if it were a small one
        return plan


class RestHandler(tornado.web.RequestHandler):
    """POST /rest/sql or /rest/sql/DATABASE; parameters tz, conn_tz and row_with_meta as taosAdapter has them."""

    def initialize(self, storage, pool, users, check, explain):
        self.storage, self.pool, self.users = storage, pool, users
        self.check, self.explain = check, explain

    def set_default_headers(self):
        self.clear_header("Server")

    def prepare(self):
        if self.request.method != "POST":
            raise tornado.web.HTTPError(404)

    async def post(self, database=None):
        try:
            text = await asyncio.get_running_loop().run_in_executor(self.pool, self.run, database)
        except Exception as error:  # whatever it is, the client waits for an answer
            error = self.explain(error)
            self.set_status(error.status if isinstance(error, BadRequest) else 200)
            text = to_json({"code": error.code, "desc": error.message})
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(text)

    def run(self, database):
        """In a thread: the request carried out, and its answer as text."""
        user, password = user_of(self.request.headers.get("Authorization"))
        zones = [zone_of(name) for key in ("tz", "conn_tz") for name in self.get_query_arguments(key)[-1:]]
        with_names = self.get_query_argument("row_with_meta", "false")
        if with_names not in ("true", "false"):
            raise BadRequest(400, 0xFFFF, f"illegal param, row_with_meta must be boolean {with_names}")
        if not self.request.body:
            raise BadRequest(400, NO_BODY, "no msg input")
        sql = self.request.body.decode(errors="replace").strip()
        if not sql:
            raise BadRequest(400, NO_SQL, "no sql input")
        self.check(self.users, user, password)
        session = WholeResults(self.storage)
        if database in self.storage.databases:
            session.database = database
        if self.get_query_arguments("conn_tz"):
            session.zone = zones[-1]
        return to_json(answer_to(session.execute(sql), zones[-1] if zones else datetime.UTC, with_names == "true"))


def to_json(answer):
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
