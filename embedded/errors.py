"""TDengine's errors, and failures of the stand-in in its terms."""

import logging
import time

import duckdb

STAND_IN = "stand-in for TDengine (embedded, not TDengine itself)"
FAILED = 0xFFFF  # taosAdapter's own code
SYNTAX, UNPARSABLE = 0x2600, 0x0216  # of INSERT and of prepared statements the latter
NO_TABLE = (0x2603, "Table does not exist")
SAME_LINE_S = 60
logged_at = -SAME_LINE_S


class TDengineError(Exception):
    """What TDengine would answer: a code of 16 bits and a text."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def refuse(when, code, message):
    """The TDengineError, if that holds."""
    if when:
        raise TDengineError(code, message)


def as_tdengine_error(error):
    """A failure inside as a reply has it: one to write with TDengine's code, anything else with taosAdapter's own."""
    global logged_at
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, TDengineError):
        return error
    if isinstance(error, duckdb.CatalogException):  # dropped meanwhile
        return TDengineError(*NO_TABLE)
    if isinstance(error, duckdb.ConversionException):  # a value in an INSERT
        return TDengineError(UNPARSABLE, f"syntax error ({text})")
    if not (isinstance(error, duckdb.IOException | duckdb.FatalException | OSError) or "Could not write" in text):
        return TDengineError(FAILED, f"the {STAND_IN} failed: {text}")
    if time.monotonic() - logged_at >= SAME_LINE_S:
        logged_at = time.monotonic()
        logging.error("the data folder cannot be written, is the disk full? Retrying: %s", text)
    return TDengineError(0x020D, f"System out of disk space: the stand-in for TDengine cannot write ({text})")
