"""When a feed polls, and when it may rest."""

import time
import types

import pytest

from bridge.polls import is_due


@pytest.mark.parametrize(
    ("pace", "limit", "since_s", "looking", "due"),
    [
        (200, 6000, 0.25, True, True),
        (200, 6000, 0.25, False, False),
        (200, 6000, 2.0, False, True),
        (0, 6000, 0.25, False, True),  # after a pause nobody knows how many rows will come
        (4000, 6000, 0.25, False, True),  # in two seconds more than the limit holds
        (4000, 100_000, 0.25, False, False),
    ],
)
def test_it_rests_while_nobody_looks_and_the_limit_holds_what_may_come(pace, limit, since_s, looking, due):
    feed = types.SimpleNamespace(pace=pace, limit=limit, ticked_at=time.monotonic() - since_s)
    viewers = types.SimpleNamespace(are_looking=lambda: looking)
    assert is_due(feed, viewers, 250) == due
