"""Flags of the scripts, and what is said of wrong ones: one line, exit status 2."""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import ssl
import sys

from . import VERSION, dsn
from .sql import split_name

INSTALL = "run ./install.sh, then `source venv/bin/activate`"
# the environment's variable that may hold the DSN, the DSN otherwise, how to parse it
TDENGINE = ("TDENGINE_DSN", dsn.TDENGINE, dsn.tdengine)
CLICKHOUSE = ("CLICKHOUSE_DSN", dsn.CLICKHOUSE, dsn.clickhouse)


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one line."""

    def __init__(self, doc):
        super().__init__(description=doc.split("\n")[0], allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help shows all flags)\n")


@contextlib.contextmanager
def needs(install=INSTALL, last_line=""):
    """Around imports of packages: one that is missing is reported in one line, without a traceback.

    From here on a signal ends the script with status 0, after its last line, until something else is done about it.
    """

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # without a thread for itself numpy's library ends the process

    def stop(*_):
        if "--multiprocessing-fork" not in sys.orig_argv:  # a child that imports the script has nothing to say
            os.write(1, last_line.encode())
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        yield
    except ImportError as error:
        name = pathlib.Path(sys.argv[0]).name
        sys.exit(f"{name}: {error}: {install} (this is {sys.executable})")


def whole_number(least, most=10**9):
    def parse(text):
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to {most}")
        return int(text)

    return parse


def duration_s(text):
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 30s, 10m, 2h or 1d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def name(text):
    """A database's name, taken as it is."""
    if not 0 < len(text) <= 64 or "`" in text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"'{text}' is not a name: 1 to 64 characters, none of them `")
    return text


def origin(text):
    if not re.fullmatch(r"https?://[^/?#@\s]+/?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not an origin such as https://demo.example")
    return text.rstrip("/").lower()


def prefix(text):
    if not re.fullmatch(r"(/[\w.~-]+)*/?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not a path such as /demo")
    return text.rstrip("/")


def add_database(parser, kind):
    add, (variable, default, _) = parser.add_argument, kind
    add("--dsn", default=os.environ.get(variable) or default, help=f"default: ${variable} or {default}")
    add("--password-file", metavar="FILE", help="holds the password for the DSN, which then needs none")
    add("--database", type=name, metavar="NAME", help="default: the DSN's, or else the dataset's own")


def add_producer(parser):
    add = parser.add_argument
    add("--interval", type=whole_number(0), default=250, metavar="MS", help="between batches; 0: none (default: 250)")
    add("--rows", type=whole_number(1), default=250, metavar="N", help="rows a batch (default: 250)")
    add("--batches", type=whole_number(0), default=0, metavar="N", help="stop after N batches (default: 0, never)")
    add(
        "--backlog", type=whole_number(1), default=10**6, metavar="ROWS", help="rows kept while away (default: 1000000)"
    )
    add("--seed", type=whole_number(0), metavar="N", help="the same random values each time")
    add("--reset", action="store_true", help="drop the dataset's table first, with all its rows")


def add_server(parser):
    add = parser.add_argument
    add("--interval", type=whole_number(10, 60_000), default=250, metavar="MS", help="between polls (default: 250)")
    add("--limit", type=whole_number(1, 10**8), default=20_000, metavar="N", help="rows a table holds (default: 20000)")
    add("--history", type=duration_s, default=0, metavar="TIME", help="show rows from so long before the start, as 10m")
    add("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=whole_number(0, 65535), default=8080, metavar="P", help="default: 8080")
    add("--certfile", metavar="FILE", help="certificate chain (PEM) to serve https:// and wss:// with")
    add("--keyfile", metavar="FILE", help="its private key (PEM)")
    add("--prefix", type=prefix, default="", metavar="/PATH", help="the path at which a proxy serves us, as /demo")
    add(
        "--allow-origin", type=origin, action="append", default=[], metavar="ORIGIN", help="pages that may connect, too"
    )
    add("--allow-host", action="append", default=[], metavar="NAME", help="name by which a proxy calls us")
    add("--no-file-origin", action="store_true", help="refuse pages opened from disk")
    add("--max-viewers", type=whole_number(0, 10**5), default=1000, metavar="N", help="connections (default: 1000)")
    add("--max-memory", type=whole_number(100, 10**6), default=1024, metavar="MB", help="of the engine (default: 1024)")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="default: info")


def check_dsn(parser, args, parse):
    """args.dsn as a Dsn, args.database from it when it is not given."""
    try:
        args.dsn = parse(args.dsn, args.password_file)
        args.database = args.database or (name(args.dsn.database) if args.dsn.database else None)
    except (dsn.Invalid, argparse.ArgumentTypeError) as error:
        parser.error(f"--dsn: {error}")


def check_tls(parser, args):
    """args.tls: the server's SSLContext or None."""
    args.tls = None
    if args.certfile or args.keyfile:
        try:
            args.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            args.tls.load_cert_chain(args.certfile, args.keyfile)
        except (OSError, TypeError) as error:
            parser.error(f"--certfile or --keyfile can't be used: {error}")


def producer(doc, datasets, kind=TDENGINE, argv=None):
    """A producer's: dsn, dataset, database, table, ... datasets: {name: what has a `database` and a `table`}."""
    parser = Parser(doc)
    parser.add_argument("--dataset", choices=list(datasets), default="stocks", help="which rows (default: stocks)")
    add_database(parser, kind)
    if kind is TDENGINE:
        text = "of CREATE DATABASE, as 'VGROUPS 3 REPLICA 3 KEEP 30d'"
        parser.add_argument("--database-options", default="", metavar="TEXT", help=text)
    add_producer(parser)
    args = parser.parse_args(argv)
    check_dsn(parser, args, kind[2])
    if args.backlog < args.rows:
        parser.error("--backlog must hold at least one batch of --rows")
    args.table, args.database = datasets[args.dataset].table, args.database or datasets[args.dataset].database
    return args


def server(doc, datasets, kind=TDENGINE, argv=None):
    """A server's: dsn, source, tables as [(database, table, title or None, dataset or None)], ...

    datasets: {name: (database, table, title)}.
    """
    parser = Parser(doc)
    choices = [*datasets, "all"] if len(datasets) > 1 else list(datasets)
    parser.add_argument("--dataset", choices=choices, help="which of the demo's tables (default: stocks)")
    parser.add_argument(
        "--table", action="append", default=[], metavar="DB.TABLE", help="a table of your own; may be repeated"
    )
    add_database(parser, kind)
    if kind is TDENGINE:
        text = "poll for rows, or be pushed them (default: poll)"
        parser.add_argument("--source", choices=["poll", "subscribe"], default="poll", help=text)
    add_server(parser)
    args = parser.parse_args(argv)
    check_dsn(parser, args, kind[2])
    check_tls(parser, args)
    chosen = datasets if args.dataset == "all" else [args.dataset] if args.dataset else [] if args.table else ["stocks"]
    args.tables = [(args.database or datasets[each][0], *datasets[each][1:], each) for each in chosen]
    try:
        own = list(dict.fromkeys(split_name(table, args.database) for table in args.table))
    except ValueError as error:
        parser.error(f"--table: {error}")
    titles = [title for _, _, title, _ in args.tables] + [table for _, table in own]
    for database, table in own:
        title = f"{database}.{table}" if titles.count(table) > 1 else table
        args.tables.append((database, table, title, None))
    return args


def of_viewers(args):
    """What Viewers has to know."""
    return {
        "max_viewers": args.max_viewers,
        "host": args.host,
        "allow_origins": args.allow_origin,
        "file_origin": not args.no_file_origin,
        "allow_hosts": args.allow_host,
    }
