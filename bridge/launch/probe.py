"""Run as a process of its own, because a call of taosws can hang: does a database answer?

    python -m bridge.launch.probe tdengine|clickhouse

The DSN is in the environment's PROBE_DSN. Prints its version, or in one line why not. Exit status: 0 it answers, 2 the
DSN can't be used, 3 user or password refused, 4 no answer, 1 the client's package is missing or broken.
"""

import logging
import os
import re
import sys

from .. import dsn

CLICKHOUSE = {"clickhouse", "clickhouses", "clickhousedb", "clickhousedbs", "http", "https"}
CLICKHOUSE |= {f"{scheme}+{way}" for scheme in ("clickhouse", "clickhousedb") for way in ("http", "https")}
REFUSED = {192, 193, 194, 195, 497, 516}  # ClickHouse's codes for what is wrong with a user, password or right


def tdengine(text):
    """(status, text) of the TDengine at a DSN; without its database, which the producer makes when it is missing."""
    import taosws

    found = dsn.tdengine(text)
    try:
        connection = taosws.connect(found.url)  # named: a result is read only while its connection lives
        return 0, next(iter(connection.query("SELECT SERVER_VERSION()")))[0]
    except taosws.Error as error:
        line = found.hide(str(error))
        return 3 if re.search("0x0357|0x0351", line) else 4, line


def clickhouse(text):
    """(status, text) of the ClickHouse at a DSN."""
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    logging.disable()
    parts, _ = dsn.split(text, CLICKHOUSE, "clickhouse://USER:PASSWORD@HOST:8123")
    try:
        client = clickhouse_connect.get_client(
            dsn=parts._replace(path="").geturl(), connect_timeout=4, send_receive_timeout=4
        )
        return 0, client.server_version
    except (ClickHouseError, OSError) as error:
        line = " ".join(str(error).split())
        known = re.search(r"DB::Exception: (.*?)(?: \(version |$)", line) or re.search(
            r"\[Errno \d+\] ([^\"')]+)", line
        )
        return 3 if getattr(error, "code", None) in REFUSED else 4, (known[1] if known else line)[:200]


def main():
    try:
        status, text = {"tdengine": tdengine, "clickhouse": clickhouse}[sys.argv[1]](os.environ["PROBE_DSN"])
    except ValueError as error:  # dsn.Invalid, and what clickhouse-connect raises for options that it does not know
        status, text = 2, error
    except ImportError as error:
        status, text = 1, error
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
