"""Timestamps: integers since 1970 in a database's precision, and the texts and durations that stand for them."""

import calendar
import datetime
import re
import time

from .types import UNITS_PER_S, TDengineError

TEXT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d*))?(?:([Zz])|([+-])(\d{2}):?(\d{2}))?)?",
    re.ASCII,
)
NANOSECONDS = {
    "b": 1,
    "u": 10**3,
    "a": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
LATEST = (31556995200000, 31556995200000000, 9214646400000000000)  # by precision; the first two are the year 2970


def now(precision):
    return time.time_ns() // (10**9 // UNITS_PER_S[precision])


def today(precision, zone):
    """Midnight in this time zone."""
    midnight = datetime.datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(midnight.timestamp()) * UNITS_PER_S[precision]


def from_text(text, precision, zone):
    """The timestamp that a text stands for, or None. Digits of the fraction beyond the precision are cut."""
    match = TEXT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, utc, sign, hours, minutes = match.groups()
    if utc:
        zone = datetime.UTC
    elif sign:
        offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
        if offset >= datetime.timedelta(days=1):
            return None
        zone = datetime.timezone(offset if sign == "+" else -offset)
    try:
        moment = datetime.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=zone
        )
    except ValueError:
        return None
    per_s = UNITS_PER_S[precision]
    digits = len(str(per_s)) - 1
    whole = calendar.timegm(moment.utctimetuple())
    return whole * per_s + int((fraction or "")[:digits].ljust(digits, "0"))


def span(count, unit, precision):
    """A duration in units of the precision; what is below one unit vanishes. Not for months and years."""
    return count * NANOSECONDS[unit] // (10**9 // UNITS_PER_S[precision])


def shifted(timestamp, count, unit, precision, zone):
    """timestamp plus a duration; months and years by the calendar."""
    if unit not in "ny":
        amount = span(abs(count), unit, precision)
        return timestamp + (amount if count > 0 else -amount)
    per_s = UNITS_PER_S[precision]
    try:
        moment = datetime.datetime.fromtimestamp(timestamp // per_s, zone)
        months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        moment = moment.replace(year=year, month=month + 1, day=day)
        return int(moment.timestamp()) * per_s + timestamp % per_s
    except (ValueError, OverflowError, OSError):
        raise TDengineError(0x060B, "Timestamp data out of range") from None
