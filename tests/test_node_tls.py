"""TLS, tokens, a prefix and log levels with the Node pair."""

import pytest
from chain import behind_a_proxy
from node_chain import NodeChain, skip_without_node
from test_tls import (  # noqa: F401 (pytest runs them with this module's chain)
    authority,
    test_a_ca_file_that_is_not_there_is_named,
    test_a_certificate_that_nobody_vouches_for_is_refused,
    test_rows_go_through_tls_with_the_ca_that_the_dsn_names_and_its_token_into_no_log,
    test_rows_go_through_tls_with_the_ca_that_the_system_trusts,
    test_the_certificate_is_left_unlooked_at_only_when_the_dsn_says_so,
    test_the_server_itself_behind_tls_and_a_prefix,
)

skip_without_node()


@pytest.fixture
def chain(database, tmp_path, authority):  # noqa: F811
    """A chain whose scripts reach the database by wss only; its proxy is chain.proxy."""
    with behind_a_proxy(NodeChain, database, tmp_path, authority[1]) as chain:
        yield chain


@pytest.fixture
def plain(database, tmp_path):
    with NodeChain(database, tmp_path) as chain:
        yield chain
