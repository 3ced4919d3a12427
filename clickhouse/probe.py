"""Run as a process of its own by run.sh: does ClickHouse answer at PROBE_DSN? See bridge/launch/probe.py."""

from bridge import dsn
from bridge.launch import probe


def clickhouse(text):
    """(status, text) of the ClickHouse at a DSN; without its database, which the producer makes when it is missing."""
    from clickhouse import client

    found = dsn.clickhouse(text)
    try:
        return 0, client.connect(found).server_version
    except client.ERRORS as error:
        return 3 if client.code(error) in client.REFUSED else 4, found.hide(client.words(error))


if __name__ == "__main__":
    probe.main(clickhouse)
