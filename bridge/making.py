"""Makes the databases and tables that a producer needs; what an outbox has to know of TDengine's errors.

The functions with a connection run in the outbox's child process.
"""

import re
import time

from .outbox import Refused
from .sql import UNITS_PER_S, literal, quoted, topic_of, words

OPTIONS = {"PRECISION": "PRECISION 'ns'", "KEEP": "KEEP 1d DURATION 1h"}  # a demo left running must not fill the disk
TOPIC_S = 6  # tries to drop a topic that is in use: servers that end leave it free
IN_USE = ("0x03EB", "0x03EF", "0x03ED")  # a consumer, a rebalance after one has gone, another topic than ours


class OtherColumns(Exception):
    """A table can't take what is to be inserted."""


def make_database(connection, database, options=""):
    """Makes the database when it is missing, rows kept for a day unless the options say KEEP; its units per second."""
    sql = f"SELECT `precision` FROM information_schema.ins_databases WHERE name = {literal(database)}"
    if not list(connection.query(sql)):  # looked for first: who may use a database may not make one
        options = [options] + [text for word, text in OPTIONS.items() if word not in options.upper()]
        connection.execute(f"CREATE DATABASE IF NOT EXISTS {quoted(database)} {' '.join(options)}")
    return UNITS_PER_S[list(connection.query(sql))[0][0]]


def make_table(connection, database, table, columns, tags):
    """Makes the table, with tags the supertable, when it is missing. OtherColumns when it can't take these columns."""
    name = f"{quoted(database)}.{quoted(table)}"
    listed = [", ".join(f"{quoted(each)} {kind}" for each, kind in part.items()) for part in (columns, tags)]
    connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({listed[0]})" + (f" TAGS ({listed[1]})" if tags else ""))
    found = {row[0]: (row[1], row[2]) for row in connection.query(f"DESCRIBE {name}")}
    differ = []
    for column, kind in (columns | tags).items():
        wanted, length = re.fullmatch(r"([A-Z ]+)(?:\((\d+)\))?", kind).groups()
        kind_found, length_found = found.get(column, ("missing", 0))
        if kind_found != wanted.replace("BINARY", "VARCHAR") or length_found < int(length or 0):
            size = f"({length_found})" if length and length_found else ""
            differ.append(f"{column} is {kind_found}{size} where {kind} is sent")
    if differ:
        raise OtherColumns(f"{database}.{table} has other columns: {', '.join(differ)}")


def reset(url, database, table):
    """Drops the table with all its rows, and the topic that perspective_server.py --source subscribe made on it."""
    import taosws  # here, so that only the child loads it

    connection = taosws.connect(url)
    topic, give_up_at = topic_of(database, table), time.monotonic() + TOPIC_S
    while topic in [name for (name,) in connection.query("SHOW TOPICS")]:
        try:
            connection.execute(f"DROP TOPIC IF EXISTS {quoted(topic)}")
        except taosws.Error as error:
            if not any(code in str(error) for code in IN_USE):
                raise
            if time.monotonic() > give_up_at:
                raise OtherColumns(f"--reset: {holder(connection, topic)}") from None
            time.sleep(0.2)
    if list(connection.query(f"SELECT name FROM information_schema.ins_databases WHERE name = {literal(database)}")):
        connection.execute(f"DROP TABLE IF EXISTS {quoted(database)}.{quoted(table)}")


def holder(connection, topic):
    """Who holds a topic, as far as TDengine says."""
    sql = f"SELECT consumer_group FROM information_schema.ins_subscriptions WHERE topic_name = {literal(topic)}"
    try:
        groups = sorted({str(group) for (group,) in connection.query(sql)})
    except Exception:
        groups = []
    held = f"by {', '.join(groups)}" if groups else "by a consumer"
    return f"topic {topic} is held {held}: end perspective_server.py --source subscribe, or what else is subscribed"


def outbox_options(args):
    """What an Outbox has to know of TDengine."""

    def explain(text):
        if re.search("0x0357|0x0351", text):
            return Refused(
                f"{args.dsn.shown} refuses this user or password ({text}): check --dsn, TDENGINE_DSN or --password-file"
            )
        if "certificate" in text or "tls_" in text:
            return Refused(f"can't trust {args.dsn.shown} ({text}): name your CA's file in the DSN, as ?tls_ca=ca.pem")
        if " has other columns: " in text:
            return Refused(f"{text}; --reset makes the table anew, --database NAME uses another one")
        if text.startswith("--reset: "):
            return Refused(text)
        return None

    return {
        "name": "producer.py",
        "server": f"TDengine at {args.dsn.shown}",
        "backlog": args.backlog,
        "hide": lambda text: args.dsn.hide(words(text)),
        "explain": explain,
        "too_old": lambda text: "0x060B" in text.upper().replace("0X", "0x"),
        "once": (reset, (args.dsn.url, args.database, args.table)) if args.reset else None,
    }
