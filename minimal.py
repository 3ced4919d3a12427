#!/usr/bin/env python3
"""One table of TDengine, live at http://localhost:8080/: python minimal.py [DB.TABLE [PORT]]

Needs requirements.txt's versions. Left out, and in bridge/: late rows, changing columns (feed.py),
pushed rows (subscription.py), TLS (dsn.py), metrics (web.py), stalls, crashes (supervisor.py)."""

import asyncio, functools, importlib.resources, multiprocessing, os, signal, sys
import pebble, perspective.handlers.tornado, pyarrow, taosws, tornado.web
from google.protobuf import descriptor_pb2, message_factory

DSN, LIMIT = os.environ.get("TDENGINE_DSN", "ws://root:taosdata@localhost:6041"), 20_000
SELECT = {"TIMESTAMP": "CAST(`{}` AS BIGINT)", "VARCHAR": "CAST(`{}` AS VARBINARY)"}
SELECT |= {"GEOMETRY": "ST_AsText(`{}`)", "tbname": "CAST(tbname AS VARBINARY)"}
CONVERT = {"VARCHAR": lambda v: str(v, "utf8", "replace"), "VARBINARY": bytes.hex, "DECIMAL": float}
INTEGERS = [f"{n}INT{u}" for n in ("TINY", "SMALL", "", "BIG") for u in ("", " UNSIGNED")]
ARROW = dict.fromkeys(INTEGERS, "int64") | {"BIGINT UNSIGNED": "uint64", "BOOL": "bool"}
ARROW |= {"TIMESTAMP": "timestamp[{}]"} | dict.fromkeys(["FLOAT", "DOUBLE", "DECIMAL"], "double")
KINDS = [*range(3, 27), 29, 30, *range(34, 38), 39, 40]  # only look, unlike 28, table_delete
FIELDS = [{"name": f"kind_{n}", "number": n, "type": 12, "oneof_index": 0} for n in KINDS]
FIELDS += [{"name": "number", "number": 1, "type": 13}, {"name": "entity", "number": 2, "type": 9}]
REQUEST = {"name": "Request", "field": FIELDS, "oneof_decl": [{"name": "kind"}]}
FILE = descriptor_pb2.FileDescriptorProto(name="minimal", syntax="proto3", message_type=[REQUEST])
Request = message_factory.GetMessages([FILE])["Request"]
SPAWN = multiprocessing.get_context("spawn")
READER = pebble.ProcessPool(1, 0, signal.signal, (signal.SIGTERM, signal.SIG_DFL), SPAWN)
create_tdengine_connection = functools.cache(taosws.connect)  # the reader's, until a query fails


@pebble.asynchronous.process(pool=READER, timeout=8)
def read_tdengine(sql):
    """A query's rows, read in a child process: taosws holds the interpreter lock while it waits."""
    try:
        connection = create_tdengine_connection(DSN)
        return list(connection.query(sql))
    except BaseException as error:  # taosws' PanicException is no Exception
        create_tdengine_connection.cache_clear()
        raise RuntimeError(f"{error}" if "[0x" in f"{error}" else "TDENGINE_DSN is wrong") from None


async def perspective_thread(client, database, table, hosted=None, since=0, shown=()):
    """Hosts the table's newest rows, then adds each new one once; names that are taken get a _."""
    described = await read_tdengine(f"DESCRIBE `{database}`.`{table}`")
    columns = [(name, kind.partition("(")[0], note) for name, kind, _, note, *_ in described]
    if any(note == "TAG" for *_, note in columns):  # a supertable's rows differ by subtable, too
        columns.insert(1, ("tbname", "tbname", "COMPOSITE KEY"))
    names, kinds, notes = zip(*columns, strict=True)
    heads = [n + "_" * (n.startswith(("psp_", "__")) or n == "tbname" != k) for n, k, _ in columns]
    where = f"information_schema.ins_databases WHERE name = '{database}'"
    ((unit,),) = await read_tdengine(f"SELECT `precision` FROM {where}")
    key, second = 1 + notes.count("COMPOSITE KEY"), {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    select = [SELECT.get(kind, "`{}`").format(name) for name, kind, _ in columns]
    sql = f"SELECT {', '.join(select)} FROM `{database}`.`{table}` WHERE `{names[0]}` BETWEEN"
    order = f"ORDER BY `{names[0]}` DESC LIMIT {LIMIT}"
    host = functools.partial(client.table, limit=LIMIT, name=table)  # empty, it could freeze
    while True:
        try:
            rows = await read_tdengine(f"{sql} {since} AND NOW {order}")
            if new := [row for row in reversed(rows) if row[:key] not in shown]:
                arrays = []
                for kind, values in zip(kinds, zip(*new, strict=True), strict=True):
                    convert = CONVERT.get(kind, lambda value: value)
                    values = [value if value is None else convert(value) for value in values]
                    arrays.append(pyarrow.array(values, ARROW.get(kind, "string").format(unit)))
                hosted = (hosted.update if hosted else host)(pyarrow.table(arrays, heads)) or hosted
                since, shown = max(since, rows[0][0] - second), {row[:key] for row in rows}
        except (OSError, RuntimeError) as error:  # no answer in time, or an error
            print(f"minimal.py retries: {error}", file=sys.stderr)
        await asyncio.sleep(0.25)


class ReadOnlyHandler(perspective.handlers.tornado.PerspectiveTornadoHandler):
    check_origin = tornado.websocket.WebSocketHandler.check_origin  # pages of this server only

    def on_message(self, data):
        request = Request.FromString(data)  # raises an error, which disconnects, if it is none
        request.DiscardUnknownFields()  # or they would be handed on
        if request.WhichOneof("kind") is None:
            return self.close(1008, "viewers may look, not touch")
        return super().on_message(request.SerializeToString())


class Page(tornado.web.RequestHandler):
    def get(self):
        self.finish("""<!doctype html><link rel="stylesheet" href="perspective-anywidget.css">
<perspective-viewer id="viewer" style="position: absolute; inset: 0"></perspective-viewer>
<script type="module">
await (await import("./perspective-anywidget.js")).ready;
const { Client } = customElements.get("perspective-viewer").__wasm_module__;
const ws = Object.assign(new WebSocket("/websocket"), { binaryType: "arraybuffer" });
const client = new Client(async (bytes) => ws.send(bytes.slice()), async () => ws.close());
ws.onmessage = ({ data }) => client.handle_response(data);
const again = () => setTimeout(() => fetch("/").then(() => location.reload(), again), 1000);
ws.onclose = ({ reason }) => (reason ? viewer.replaceWith(reason) : again());
await new Promise((opened) => (ws.onopen = opened));
const [table = ws.close()] = await client.get_hosted_table_names();
const [time] = await (await client.open_table(table)).columns();
viewer.load(client).then(() => viewer.restore({ table, theme: "Pro Dark", sort: [[time, "desc"]] }))
</script>""")


def make_app(server):
    wheel = {"path": importlib.resources.files("perspective") / "widget/static"}
    files = (r"/(perspective-anywidget\.(?:js|css))", tornado.web.StaticFileHandler, wheel)
    routes = [(r"/", Page), files, (r"/websocket", ReadOnlyHandler, {"perspective_server": server})]
    local = tornado.routing.HostMatches(r"(localhost|127\.0\.0\.1)")  # no hostile page's own name
    return tornado.web.Application([(local, routes)], websocket_ping_interval=20)


async def main(name="stocks.stocks_values", port=8080):
    make_app(server := perspective.Server()).listen(port, "127.0.0.1")
    await perspective_thread(server.new_local_client(), *name.replace("`", "").partition(".")[::2])


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (OSError, RuntimeError) as error:  # as of a wrong name or login, a port in use
        sys.exit(f"{' '.join(sys.argv)}: {error}")
