"""When to poll: shortly after a producer's batch has come, and rarely while nobody looks."""

import time

REST_S, SLACK_S = 2.0, 0.1  # most time between two polls while nobody looks; what a poll may come early or late
PART = 8  # such a part of its limit a table may be brought by one poll then: the pace may rise as many times unseen


def until_in_step(interval_ms, lag_ms=60):
    """Seconds until shortly after the next full interval of the clock, when a producer's batch has just come.

    lag_ms: what a batch takes to get into the database.
    """
    return (min(lag_ms, 0.4 * interval_ms) - time.time() * 1000) % interval_ms / 1000


def is_due(feed, viewers, interval_ms):
    """Whether a feed is to poll now, or may rest until the next interval.

    It rests while nobody looks, for up to REST_S, if the last poll has brought rows: after a pause, or before the first
    rows, nobody knows how many will come.
    """
    if viewers.are_looking() or not feed.pace:
        return True
    rest_s = min(REST_S, feed.limit / PART / feed.pace)
    return time.monotonic() - feed.ticked_at + interval_ms / 1000 > rest_s + SLACK_S
