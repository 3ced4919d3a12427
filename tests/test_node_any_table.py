"""--table of the Node server: what is promised of the Python server's."""

import pytest
from node_chain import NodeChain, skip_without_node
from test_any_table import (  # noqa: F401 (pytest runs them with this module's sites and chain)
    sites_of,
    test_a_column_added_or_a_table_made_anew_is_noticed,
    test_a_composite_key_tells_rows_of_one_time_apart,
    test_a_wide_table,
    test_columns_with_names_that_perspective_or_the_bridge_use,
    test_each_type_is_shown_exactly,
    test_names_of_any_kind,
    test_rows_of_any_clocks_are_shown_once_or_counted,
    test_rows_of_two_subtables_with_equal_values_are_two_rows_and_shown_once,
    test_sums_with_a_limit_two_tables_of_one_name_a_dataset_old_rows_and_no_table,
    test_whole_numbers_beyond_a_doubles_stay_apart,
)

skip_without_node()


@pytest.fixture(scope="module")
def sites(shared_stand_in, tmp_path_factory):
    with sites_of(NodeChain, ["poll"], shared_stand_in, tmp_path_factory.mktemp("sites")) as sites:
        yield sites


@pytest.fixture
def chain(database, tmp_path, source):
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    with NodeChain(database, tmp_path) as chain:
        yield chain
