"""python -m embedded: a stand-in for TDengine on this machine, for the demo and its tests. Not TDengine."""

import argparse
import asyncio
import logging
import pathlib
import signal
import sys

import tornado.httpserver
import tornado.netutil

from .server import make_app
from .storage import Storage, UnusableFolder
from .types import STAND_IN

DEFAULT_FOLDER = pathlib.Path(__file__).resolve().parent.parent / ".data"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    parser.add_argument("--port", type=port_number, default=6041, help="0: any free one (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="default .data")
    parser.add_argument("--user", default="root", help="the one user (default %(default)s)")
    parser.add_argument(
        "--password-file", type=pathlib.Path, metavar="FILE", help="holds the user's password (default taosdata)"
    )
    return parser.parse_args()


def port_number(text):
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


async def serve(sockets, app, note):
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = tornado.httpserver.HTTPServer(app)
    server.add_sockets(sockets)
    print(note, flush=True)
    await stop.wait()
    server.stop()


def main():
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    password = "taosdata"
    try:
        if arguments.password_file:
            password = arguments.password_file.read_text().strip()
        sockets = tornado.netutil.bind_sockets(arguments.port, arguments.host)
    except (OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) == 98:
            sys.exit(f"port {arguments.port} is taken: stop what listens there, or choose another --port")
        sys.exit(f"cannot start: {error}")
    try:
        storage = Storage(arguments.data)
    except UnusableFolder as error:
        sys.exit(f"the data folder {error}; choose another with --data")
    port = sockets[0].getsockname()[1]
    app = make_app(storage, {arguments.user: password})
    try:
        asyncio.run(
            serve(sockets, app, f"{STAND_IN} listening on ws://{arguments.host}:{port}, data in {storage.folder}")
        )
    finally:
        storage.close()


if __name__ == "__main__":
    main()
