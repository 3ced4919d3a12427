"""Names and texts in TDengine's SQL, and its answers in words: what producer and server share, without any package."""

import re
import zlib

LONGEST_TOPIC = 64  # bytes: TDengine makes longer ones, up to 192, but no consumer can subscribe to them
UNITS_PER_S = {"ms": 10**3, "us": 10**6, "ns": 10**9}  # of timestamps, by a database's precision


def quoted(name):
    """A name as it stands in SQL: taken as it is, whatever its characters but for a back-quote, which none may have."""
    return f"`{name}`"


def literal(text):
    """A text as it stands in SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def split_name(text, database=None):
    """(database, table) of `DB.TABLE`; a part in back-quotes may hold dots. ValueError when there is no database."""
    match = re.fullmatch(r"(?:(?:`([^`]+)`|([^`.]+))\.)?(?:`([^`]+)`|([^`]+))", text)
    if match is None or not (database := match[1] or match[2] or database):
        raise ValueError(f"'{text}' is not DB.TABLE (a name with a dot in back-quotes: 'factory.`a.b`')")
    return database, match[3] or match[4]


def topic_of(database, table):
    """The topic on a table: made when it is missing, and stays; servers share it, each in a group of its own."""
    topic = f"perspective_{database}_{table}"
    if "_" in database or len(topic.encode()) > LONGEST_TOPIC:  # a.b_c and a_b.c are two tables
        checksum = f"_{zlib.crc32(f'{database}.{table}'.encode()):08x}"
        topic = topic.encode()[: LONGEST_TOPIC - len(checksum)].decode(errors="ignore") + checksum
    return topic


def words(text):
    """TDengine's words, without taosws' wrapping."""
    return re.sub(r"Internal error: `(.*)`", r"\1", text, flags=re.DOTALL)
