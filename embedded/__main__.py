"""A stand-in for TDengine on this machine, for the demo and its tests. It is not TDengine: see embedded/README.md."""

import asyncio
import contextlib
import logging
import os
import pathlib
import signal
import sys

import duckdb
import tornado.httpserver
import tornado.netutil

from bridge.options import Parser, whole_number

from .errors import STAND_IN
from .server import make_app
from .storage import Storage

FOLDER = pathlib.Path(__file__).resolve().parent.parent / ".data"


@contextlib.contextmanager
def ends_when_it_fails(what):
    """With one line that says what failed."""
    try:
        yield
    except (OSError, ValueError, duckdb.Error) as error:
        sys.exit(f"{what} ({str(error).splitlines()[0]})")


async def serve(sockets, app, note):
    """Until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    with contextlib.suppress(OSError):  # what can't be written is not written; work goes on
        print(note, flush=True)
    await stop.wait()
    os._exit(0)  # at once, also while a long query still runs; what was acknowledged is in the file


def main():
    while os.open(os.devnull, os.O_RDWR) < 3:  # closed standard streams; what opens in their place would be written to
        pass
    parser = Parser(__doc__)
    parser.prog = "python -m embedded"
    add = parser.add_argument
    add("--port", type=whole_number(0, 65535), default=6041, help="0: a free one (default: 6041)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--data", type=pathlib.Path, default=FOLDER, metavar="FOLDER", help="default: .data beside the scripts")
    add("--user", default="root", help="the one user (default: root)")
    add("--password-file", type=pathlib.Path, metavar="FILE", help="holds the user's password (default: taosdata)")
    args, password = parser.parse_args(), "taosdata"
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    if args.password_file:
        with ends_when_it_fails("cannot read --password-file"):
            password = args.password_file.read_text().strip()
    with ends_when_it_fails(f"cannot listen on {args.host} port {args.port}: choose others with --host, --port"):
        sockets = tornado.netutil.bind_sockets(args.port, args.host)
    with ends_when_it_fails(f"cannot use the data folder {args.data}: choose another with --data"):
        storage = Storage(args.data)
    port, app = sockets[0].getsockname()[1], make_app(storage, {args.user: password})
    asyncio.run(serve(sockets, app, f"{STAND_IN} listening on ws://{args.host}:{port}, data in {args.data}"))


if __name__ == "__main__":
    main()
