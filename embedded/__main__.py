"""A stand-in for TDengine on this machine, for the demo and its tests. It is not TDengine: see embedded/README.md."""

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import pathlib
import signal
import sys
import threading

import tornado.httpserver
import tornado.netutil

from .errors import STAND_IN
from .server import make_app
from .storage import Storage, UnusableFolder

DEFAULT_FOLDER = pathlib.Path(__file__).resolve().parent.parent / ".data"
STOP_S = 1.5  # bound of closing the data file after SIGINT or SIGTERM; what was acknowledged is in it already


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (try --help)\n")


def port_number(text):
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"'{text}' is not a port, which is a number from 0 to 65535")
    return int(text)


def parse_arguments():
    parser = Parser(prog="python -m embedded", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--port", type=port_number, default=6041, help="0: a free one (default: 6041)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--data", type=pathlib.Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="default: .data beside the scripts")
    add("--user", default="root", help="the one user (default: root)")
    add("--password-file", type=pathlib.Path, metavar="FILE", help="holds the user's password (default: taosdata)")
    return parser.parse_args()


def listen(host, port):
    """Listening sockets; ends the process with one line when the port cannot be had."""
    try:
        return tornado.netutil.bind_sockets(port, host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"port {port} is taken: stop what listens there, or choose another with --port")
        sys.exit(f"cannot listen on {host} port {port}: {error.strerror}; choose others with --host, --port")


def read_password(path):
    try:
        return path.read_text().strip() if path else "taosdata"
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"cannot read the password file {path}: {getattr(error, 'strerror', None) or 'not text'}")


def open_standard_streams():
    """A closed one becomes /dev/null: a file or socket in its place would be written to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


async def serve(sockets, app, note):
    """Until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = tornado.httpserver.HTTPServer(app)
    server.add_sockets(sockets)
    with contextlib.suppress(OSError):  # what can't be written is not written; work goes on
        print(note, flush=True)
    await stop.wait()
    server.stop()


def main():
    open_standard_streams()
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    password = read_password(arguments.password_file)
    sockets = listen(arguments.host, arguments.port)
    try:
        storage = Storage(arguments.data)
    except UnusableFolder as error:
        sys.exit(f"the data folder {error}; choose another with --data")
    app = make_app(storage, {arguments.user: password})
    port = sockets[0].getsockname()[1]
    asyncio.run(serve(sockets, app, f"{STAND_IN} listening on ws://{arguments.host}:{port}, data in {storage.folder}"))
    closing = threading.Thread(target=storage.close, daemon=True)
    closing.start()
    closing.join(STOP_S)
    os._exit(0)  # at once, also while a long query still runs


if __name__ == "__main__":
    main()
