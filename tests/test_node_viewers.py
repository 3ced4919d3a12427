"""What a view and a read may cost, and views that viewers share, at the Node server."""

import contextlib

import pytest
from engine_site import Site
from helpers import free_port, running, wait_until
from node_chain import NODE, PROGRAM, skip_without_node
from test_sharing import (  # noqa: F401 (pytest runs them with this module's site)
    test_a_view_outlives_the_viewer_that_asked_first,
    test_a_view_that_the_engine_refuses_is_refused_to_each,
    test_aggregates_in_another_order_are_the_same_shape_and_other_columns_are_not,
    test_both_viewers_of_a_shape_are_told_of_updates,
    test_collapsing_rows_concerns_one_viewer_only,
    test_one_who_unsubscribes_is_told_no_more_and_the_other_still_is,
)
from test_viewers import (  # noqa: F401 (pytest runs them with this module's sites)
    test_a_view_that_is_too_large_is_refused_in_words_and_the_viewer_goes_on,
    test_a_whole_plain_table_can_be_exported_and_a_larger_view_not,
    test_each_aggregate_that_the_engine_offers_makes_a_view_or_is_refused_and_rows_come_on,
    test_every_kind_with_nothing_in_it_is_answered_and_the_connection_stays,
    test_generated_expressions_and_requests,
    test_one_who_asks_all_the_time_waits_and_the_others_do_not,
    test_other_viewers_views_are_out_of_reach,
    test_parts_beyond_a_view_are_cut_at_its_edge,
    test_views_and_subscriptions_of_a_viewer_are_limited_and_free_again,
    test_what_a_user_types_is_answered_beside_what_was_typed_before,
)

skip_without_node()


@contextlib.contextmanager
def node_site(folder, *flags):
    port = free_port()
    with running([*PROGRAM, NODE / "test/site.js", port, *flags], folder, "site") as process:
        site = Site(port, process)
        wait_until(lambda: site.health().get("status") == "ok", 60, process.log)
        yield site
        assert process.alive(), site.log()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A table of 20,000 rows, to which rows come four times a second."""
    with node_site(tmp_path_factory.mktemp("site"), "--limit", "20000", "--full", "20000", "--rows", "50") as site:
        yield site


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A table of 3,000 rows, to which none come."""
    with node_site(tmp_path_factory.mktemp("still"), "--rows", "0", "--full", "3000", "--limit", "20000") as site:
        yield site
