"""--table of the Node server: what is promised of the Python server's."""

import pytest
from node_chain import NodeChain, skip_without_node
from test_any_table import (  # noqa: F401 (pytest runs them with this module's site and chain)
    site_of,
    test_a_column_added_or_a_table_made_anew_is_noticed,
    test_a_composite_key_tells_rows_of_one_time_apart,
    test_a_table_that_has_only_old_rows_says_so_and_history_shows_them,
    test_a_wide_table,
    test_each_type_is_shown_exactly,
    test_names_of_any_kind,
    test_rows_of_any_clocks_are_shown_once_or_counted,
    test_rows_of_two_subtables_with_equal_values_are_two_rows_and_shown_once,
    test_sums_are_those_of_the_rows_that_a_table_holds,
    test_two_tables_of_one_name_and_a_dataset,
    test_whole_numbers_beyond_a_doubles_stay_apart,
)

skip_without_node()


@pytest.fixture(scope="module")
def site(shared_stand_in, tmp_path_factory):
    with site_of(NodeChain, shared_stand_in, tmp_path_factory.mktemp("site"), "poll") as site:
        yield site


@pytest.fixture
def chain(database, tmp_path, source):
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    with NodeChain(database, tmp_path) as chain:
        yield chain
