"""Where the database is: splits and checks a DSN, adds what the client should not be left to guess, hides secrets."""

import dataclasses
import pathlib
import re
import ssl
import urllib.parse

TDENGINE, CLICKHOUSE = "ws://root:taosdata@localhost:6041", "clickhouse://default@localhost:8123"
READ_TIMEOUT_S = 6  # a reply that takes longer is a failure; longer than an election in a cluster would be too long
# as TDengine's documentation writes them: taosws://, taos+ws://
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss", "taosws": "ws", "taoswss": "wss"}
SCHEMES |= {"taos+ws": "ws", "taos+wss": "wss", "taosws+ws": "ws", "taosws+wss": "wss"}
CLICKHOUSE_SCHEMES = {"http", "https", "clickhouse", "clickhouses", "clickhousedb", "clickhousedbs"}
CLICKHOUSE_SCHEMES |= {f"{scheme}+{way}" for scheme in ("clickhouse", "clickhousedb") for way in ("http", "https")}
# what clickhouse-connect takes from other parts of a DSN, or can't take as text
NO_OPTIONS = {"host", "port", "user", "user_name", "username", "password", "database", "interface", "dsn", "settings"}
NO_OPTIONS |= {"headers", "pool_mgr", "token_provider", "dedicated_pool"}
HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}))?")


class Invalid(ValueError):
    """A DSN that can't be used; its text is one line that shows nothing of the DSN."""


@dataclasses.dataclass(frozen=True)
class Dsn:
    """A checked DSN: `url` for the client, `shown` for people, `database` or "", and what must not be shown."""

    url: str
    shown: str
    database: str
    secrets: tuple

    def hide(self, text):
        """The text in one line, without the password or token."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def split(text, schemes, example, password_file=None, user="root"):
    """The parts of a DSN as urllib's SplitResult, and its secrets; Invalid when host or port is none.

    user: whose password the file holds, when the DSN names nobody.

    Checked before anything is shown: with a "#" or "/" in a password its first half would pass for the host.
    """
    invalid = Invalid(f"not a DSN: one looks like {example} (special characters in a password as %XX)")
    try:
        parts = urllib.parse.urlsplit(text)
        secrets = [parts.password or "", urllib.parse.unquote(parts.password or "")]
    except ValueError:
        raise invalid from None
    login, _, hosts = parts.netloc.rpartition("@")
    matches = [HOST.fullmatch(host) for host in hosts.split(",")]
    if parts.scheme not in schemes or "#" in text or "@" in parts.path + parts.query + login or not all(matches):
        raise invalid
    if not all(0 < int(match[4] or 1) < 65536 for match in matches):
        raise invalid
    if password_file:
        try:
            password = pathlib.Path(password_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise Invalid(f"can't read the password file {password_file}: {reason}") from None
        login = f"{parts.username or user}:{urllib.parse.quote(password, safe='')}"
        secrets += [password, urllib.parse.quote(password, safe="")]
        parts = parts._replace(netloc=f"{login}@{hosts}")
    secrets += [value for name, value in urllib.parse.parse_qsl(parts.query) if "token" in name or "pass" in name]
    return parts, tuple(sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True))


def tdengine(text, password_file=None):
    """A Dsn for taosws, with time limits and, for wss, the certificate verified, unless the DSN says otherwise."""
    parts, secrets = split(text, SCHEMES, "ws://USER:PASSWORD@HOST:6041", password_file)
    scheme = SCHEMES[parts.scheme]
    given = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    if scheme == "wss":  # taosws accepts every certificate unless it is given a mode
        if given.get("tls_mode") == "none":
            del given["tls_mode"]
        else:
            given = {"tls_mode": "verify_identity", "tls_ca": ssl.get_default_verify_paths().cafile or ""} | given
            check_ca(given["tls_ca"])
    # one quick try to connect: whoever calls tries again, and reports it
    limits = {"read_timeout": READ_TIMEOUT_S, "conn_timeout": READ_TIMEOUT_S, "conn_retries": 1}
    limits |= {"retry_backoff_ms": 100, "retry_backoff_max_ms": 200}
    url = parts._replace(scheme=scheme, path="", query=urllib.parse.urlencode(limits | given)).geturl()
    hosts = parts.netloc.rpartition("@")[2]
    return Dsn(url, f"{scheme}://{hosts}", urllib.parse.unquote(parts.path.strip("/")), secrets)


def check_ca(file):
    try:
        if file:
            pathlib.Path(file).read_bytes()
    except OSError as error:
        raise Invalid(f"can't read the file that tls_ca names: {error.strerror}") from None


def clickhouse(text, password_file=None):
    """A Dsn for clickhouse-connect; what is in its query are options of the client or settings of ClickHouse."""
    parts, secrets = split(
        text, CLICKHOUSE_SCHEMES, "clickhouse://USER:PASSWORD@HOST:8123", password_file, user="default"
    )
    hosts = parts.netloc.rpartition("@")[2]
    unusable = NO_OPTIONS.intersection(dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)))
    if unusable or "," in hosts:
        raise Invalid(f"it can't have {'the option ' + min(unusable) if unusable else 'several hosts'}")
    database = urllib.parse.unquote(parts.path.strip("/"))
    return Dsn(parts._replace(path="").geturl(), f"{parts.scheme}://{hosts}", database, secrets)
