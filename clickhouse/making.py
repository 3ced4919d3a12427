"""Makes database and table for the producer, and sees to it that a batch which is sent again is stored once.

What has a connection runs in the outbox's child process.
"""

import re

from bridge.outbox import Refused
from bridge.report import say
from bridge.sql import literal
from clickhouse.client import BAD_OPTIONS, REFUSED, connect, words
from clickhouse.source import quoted

# Without a window of its own, a MergeTree that isn't replicated doesn't know a batch by its token.
WINDOW = "non_replicated_deduplication_window = 1000"
# Columns that the table does not have, values that it can't hold, no right, broken SQL: trying again can't help.
# Anything else (no connection, server starting, table dropped meanwhile) may pass.
HOPELESS = {6, 16, 27, 36, 38, 41, 44, 47, 48, 50, 53, 62, 69, 70, 115, 164, 349, 407}
NO_TIME = "has no column timestamp of type DateTime64"


class Target:
    """A table to insert into; made, with its database, when it is missing. One for each connection.

    `producer` makes its tokens different from other producers'.
    """

    def __init__(self, client, database, table, columns, producer):
        self.client, self.database, self.table, self.producer = client, database, table, producer
        self.name = f"{quoted(database)}.{quoted(table)}"
        kinds = self.kinds()
        if not kinds:
            # looked for first: who may use a database may not make one
            if not self.rows(f"SELECT name FROM system.databases WHERE name = {literal(database)}"):
                client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
            listed = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
            order = f"ENGINE = MergeTree ORDER BY timestamp SETTINGS {WINDOW}"
            client.command(f"CREATE TABLE IF NOT EXISTS {self.name} ({listed}) {order}")
            kinds = self.kinds()
        precision = re.match(r"DateTime(?:64\((\d))?", kinds.get("timestamp", ""))
        if precision is None:
            raise ValueError(f"{database}.{table} {NO_TIME}")
        self.units_per_s = 10 ** int(precision[1] or 0)
        engine = self.rows(f"SELECT engine_full FROM system.tables WHERE {self.where('name')}")[0][0]
        # a MergeTree without replicas; whether it knows batches by their tokens
        self.alone = "MergeTree" in engine.split("(")[0] and not engine.startswith(("Replicated", "Shared"))
        self.knows = bool(re.search(r"\bnon_replicated_deduplication_window = [1-9]", engine))
        self.unsure = True  # a batch may be stored whose insert was not confirmed by the connection before

    def rows(self, sql):
        return self.client.query(sql).result_rows

    def where(self, column):
        return f"database = {literal(self.database)} AND {column} = {literal(self.table)}"

    def kinds(self):
        """{column: type} of the table, {} when it is missing."""
        return dict(self.rows(f"SELECT name, type FROM system.columns WHERE {self.where('table')}"))

    def tokens(self, batch):
        """Yields the deduplication tokens with which a batch is to be inserted, one after the other: mostly one.

        After a failure it is looked for: none when it is stored; and another one when it was inserted but is not there.
        ClickHouse writes the token first: killed just then, it knows the token of rows that it does not have.
        """
        if self.unsure and self.is_stored(batch):
            return
        if self.alone and not self.knows:
            self.give_window()
        token = f"{self.producer}-{batch['timestamp'][0]}-{len(batch['timestamp'])}"
        yield token
        if self.unsure and self.alone and not self.is_stored(batch):
            yield f"{token}-again"
        self.unsure = False

    def is_stored(self, batch):
        """Whether the batch's last row is there; ClickHouse stores a batch as a whole."""
        unit = 10**9 // self.units_per_s
        stamp = batch["timestamp"][-1] // unit * unit
        same = " AND ".join(f"{name} = {literal(str(batch[name][-1]))}" for name in ("ticker", "client", "volume"))
        sql = f"SELECT count() FROM {self.name} WHERE timestamp = fromUnixTimestamp64Nano(toInt64({stamp})) AND {same}"
        return self.rows(sql)[0][0] > 0

    def give_window(self):
        """Lets a MergeTree that a user has made know batches by their tokens."""
        self.knows = True
        try:
            self.client.command(f"ALTER TABLE {self.name} MODIFY SETTING {WINDOW}")
            say(f"{self.database}.{self.table} knows a batch again from now on, so that none is stored twice: {WINDOW}")
        except Exception as error:
            line = f"{self.database}.{self.table} can't be given {WINDOW} ({words(error)})"
            say(f"{line}: a batch may be stored twice")


def reset(dsn, database, table):
    """Drops the table with all its rows."""
    connect(dsn).command(f"DROP TABLE IF EXISTS {quoted(database)}.{quoted(table)} SYNC")


def outbox_options(args):
    """What an Outbox has to know of ClickHouse."""

    def explain(text):
        found = re.search(r"\(code (\d+)\)$", text)
        number = int(found[1]) if found else None
        shown, table = args.dsn.shown, f"{args.database}.{args.table}"
        if BAD_OPTIONS in text:
            return Refused(text, 2)
        if number in REFUSED:
            return Refused(
                f"{shown} refuses this user or password ({text}): check --dsn, CLICKHOUSE_DSN or --password-file"
            )
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return Refused(
                f"{shown}'s certificate can't be trusted ({text}): name your CA's file in the DSN, as ?ca_cert=ca.pem"
            )
        if number in HOPELESS or NO_TIME in text:
            hint = "a table of other columns, which --reset makes anew, or options in the DSN?"
            return Refused(f"{table} at {shown} can't take these rows ({text}): {hint}")
        return None

    return {
        "name": "producer.py",
        "server": f"ClickHouse at {args.dsn.shown}",
        "backlog": args.backlog,
        "hide": lambda text: args.dsn.hide(words(text)),
        "explain": explain,
        "once": (reset, (args.dsn, args.database, args.table)) if args.reset else None,
    }
