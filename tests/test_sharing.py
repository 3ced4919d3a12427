"""Viewers with views of equal shape share one: each must still see what it would see alone."""

import asyncio
import contextlib

import perspective
import pytest
import tornado.websocket
from engine_site import TABLE, engine_site
from helpers import wait_until

SHAPE = {
    "group_by": ["ticker", "client"],
    "columns": ["volume", "close"],
    "aggregates": {"volume": "sum", "close": "avg"},
}
WAIT_S = 20


@contextlib.asynccontextmanager
async def viewer(port):
    """The table stock_values as a page of its own would open it."""
    socket = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{port}/websocket")
    client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))

    async def take_messages():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)

    taking = asyncio.create_task(take_messages())
    try:
        yield await client.open_table(TABLE)
    finally:
        socket.close()
        await asyncio.wait_for(taking, WAIT_S)


async def update_of(view, **mode):
    """Subscribes; an event that is set by each update, and the subscription's number."""
    loop, updated = asyncio.get_running_loop(), asyncio.Event()
    number = await view.on_update(lambda *_: loop.call_soon_threadsafe(updated.set), **mode)
    return updated, number


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with engine_site(tmp_path_factory.mktemp("site"), "--interval", 100) as site:
        yield site


def shared_by_two(site, scene):
    """Runs scene(one table, another viewer's) while rows flow; bound: WAIT_S for all of it."""

    async def play():
        async with viewer(site.port) as one, viewer(site.port) as other:
            await asyncio.wait_for(scene(one, other), WAIT_S)

    asyncio.run(play())
    wait_until(lambda: site.health()["viewers"] == 0, 10, site.log)


def test_both_viewers_of_a_shape_are_told_of_updates(site):
    async def scene(one, other):
        for table in (one, other):
            view = await table.view(**SHAPE)
            updated, _ = await update_of(view)
            await updated.wait()

    shared_by_two(site, scene)


def test_collapsing_rows_concerns_one_viewer_only(site):
    async def scene(one, other):
        mine, theirs = await one.view(**SHAPE), await other.view(**SHAPE)
        updated, _ = await update_of(mine)
        whole = await theirs.num_rows()
        await mine.collapse(0)
        assert await mine.num_rows() == 1
        assert await theirs.num_rows() >= whole > 10
        assert await (await one.view(**SHAPE)).num_rows() >= whole
        updated.clear()
        await updated.wait()  # the subscription moved along
        assert await mine.num_rows() == 1
        await mine.expand(0)
        assert 1 < await mine.num_rows() < whole

    shared_by_two(site, scene)


def test_a_view_outlives_the_viewer_that_asked_first(site):
    async def scene(one, other):
        first, second = await one.view(**SHAPE), await other.view(**SHAPE)
        updated, _ = await update_of(second)
        await first.delete()
        updated.clear()
        await updated.wait()
        assert await second.num_rows() > 10

    shared_by_two(site, scene)


def test_one_who_unsubscribes_is_told_no_more_and_the_other_still_is(site):
    async def scene(one, other):
        mine, theirs = await one.view(**SHAPE), await other.view(**SHAPE)
        my_update, my_number = await update_of(mine)
        their_update, _ = await update_of(theirs)
        await my_update.wait()
        await mine.remove_update(my_number)
        my_update.clear()
        for _ in range(3):
            their_update.clear()
            await their_update.wait()
        assert not my_update.is_set()

    shared_by_two(site, scene)


def test_aggregates_in_another_order_are_the_same_shape_and_other_columns_are_not(site):
    async def scene(one, other):
        turned = {**SHAPE, "aggregates": dict(reversed(SHAPE["aggregates"].items()))}
        assert (await (await one.view(**turned)).to_columns(end_row=1)).keys() == (
            await (await other.view(**SHAPE)).to_columns(end_row=1)
        ).keys()
        columns = await (await one.view(**{**SHAPE, "columns": ["close"]})).to_columns(end_row=1)
        assert set(columns) == {"__ROW_PATH__", "close"}

    shared_by_two(site, scene)


def test_a_view_that_the_engine_refuses_is_refused_to_each(site):
    async def scene(one, other):
        for table in (one, other, one):
            with contextlib.suppress(perspective.PerspectiveError):
                await table.view(group_by=["nonsense"])
                raise AssertionError("a view by a column that there isn't")
        assert await (await one.view(**SHAPE)).num_rows() > 10

    shared_by_two(site, scene)
