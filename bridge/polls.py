"""When to poll: shortly after a producer's batch has come, and rarely while nobody looks."""

import time

REST_S = 1.9  # between two polls at most


def until_in_step(interval_ms, lag_ms=60):
    """Seconds until shortly after the next full interval of the clock, when a producer's batch has just come."""
    return (min(lag_ms, 0.4 * interval_ms) - time.time() * 1000) % interval_ms / 1000


def is_due(feed, viewers):
    """Whether a feed is to tick now: while nobody looks rarely, but before rows at this pace fill half its limit."""
    if viewers.are_looking() or feed.shown is None:
        return True
    rest_s = min(REST_S, feed.limit / 2 / max(feed.counters.rows_per_s(), 1))
    return time.monotonic() - feed.ticked_at > rest_s
