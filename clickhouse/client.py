"""How the scripts connect to ClickHouse, and what its errors say in a line. clickhouse-connect waits in sockets,
without Python's interpreter lock: a thread is enough for a query, where taosws needs a process.
"""

import contextlib
import ipaddress
import logging
import re
import urllib.parse

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from clickhouse_connect.driver.httputil import get_pool_manager

READ_TIMEOUT_S = 6  # ClickHouse's silence for so long is a failure
ERRORS = (ClickHouseError, urllib3.exceptions.HTTPError, OSError)
REFUSED = {192, 193, 194, 195, 497, 516}  # codes: user, password, a missing grant
BAD_OPTIONS = "unusable options in the DSN"


def connect(dsn):
    """A client that waits for READ_TIMEOUT_S at most; ValueError when the DSN has options that it can't use.

    Options are the client's, such as ca_cert, or else ClickHouse's settings.
    """
    for name in ("clickhouse_connect", "urllib3"):  # each failure is reported by us, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    parts = urllib.parse.urlsplit(dsn.url)
    options = {"connect_timeout": READ_TIMEOUT_S, "send_receive_timeout": READ_TIMEOUT_S}
    options |= urllib.parse.parse_qsl(parts.query)
    secure = options.pop("secure", "").lower() in ("1", "true", "yes", "on") or parts.scheme.endswith("s")
    # no proxy of http_proxy's for this machine's own ClickHouse
    pool = {"pool_mgr": get_pool_manager()} if is_loopback(parts.hostname) and not secure else {"dedicated_pool": True}
    try:
        return clickhouse_connect.get_client(
            dsn=parts._replace(query="").geturl(),
            interface="https" if secure else "http",
            autogenerate_session_id=False,
            generic_args=options,
            **pool,
        )
    except (ProgrammingError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{BAD_OPTIONS} ({words(error)})") from None


def is_loopback(host):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def code(error):
    """The number of ClickHouse's error, or None when it was something else that failed."""
    found = re.search(r"\b[Cc]ode:? (\d+)\b", str(error))
    return int(found[1]) if found else None


def words(error):
    """What ClickHouse or the way to it said, short, with ClickHouse's code at the end."""
    text = " ".join(str(error).split())
    kinds = [r"DB::Exception: (.*?)(?: \(version |$)", r"\[Errno -?\d+\] ([^\"')]+)"]
    for kind in [*kinds, r"Caused by (.*?)\) executing HTTP", r"^Error (.*?) executing HTTP"]:
        if found := re.search(kind, text):
            return f"{found[1][:200]} (code {code(text)})" if code(text) else found[1][:200]
    return text[:200]
