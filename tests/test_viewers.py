"""Viewers may look, not touch, and none can stop the others: their views and reads are bounded by what they cost."""

import asyncio
import contextlib
import itertools
import os
import random
import time

import generated
import perspective
import pytest
from chain import resident_mb
from engine_site import TABLE, engine_site, make_rows
from helpers import in_time
from security_viewers import ANSWER_S, bare, honest
from test_sharing import viewer
from wire import encode

from bridge import costs, requests
from bridge import perspective_pb2 as pb
from bridge import viewer as one_viewer
from bridge.origins import Origins

AMOUNT = float(os.environ.get("GENERATED", 0.01))  # 1: 20,000 expressions and requests, a minute of views
SCENE_S = 60 + 600 * AMOUNT
AHEAD = 4  # reads that one asks for before the first is answered: more would fill what may wait for a slow viewer
SLOW_S = float(os.environ.get("SLOW_S", 5))  # an honest viewer's read, on a machine that does other things, too


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A table of 20,000 rows, to which rows come four times a second."""
    flags = ["--limit", 20_000, "--full", 20_000, "--rows", 50]
    with engine_site(tmp_path_factory.mktemp("site"), *flags) as site:
        yield site
        assert "Traceback" not in site.log()


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A table of 3,000 rows, to which rows come only when a test adds them."""
    with engine_site(tmp_path_factory.mktemp("still"), "--rows", 0, "--full", 3000, "--limit", 20_000) as site:
        yield site
        assert "Traceback" not in site.log()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A table of 500 rows, which holds 1000; rows come only when a test adds them."""
    with engine_site(tmp_path_factory.mktemp("small"), "--rows", 0, "--full", 500) as site:
        yield site
        assert "Traceback" not in site.log()


def beside_an_honest_viewer(site, scene):
    """Runs scene(the honest viewer); afterwards that viewer must be unharmed, and none of its reads was slow."""

    async def play():
        async with honest(site.port) as viewer:
            await asyncio.wait_for(scene(viewer), SCENE_S)
        assert in_time(viewer.slowest_s, SLOW_S)

    asyncio.run(play())


# What costs too much


LARGE_VIEWS = [
    {"group_by": ["timestamp"], "split_by": ["close"]},
    {"group_by": ["ticker"], "split_by": ["close", "client"]},
    {"split_by": ["ticker"]},
    {"group_by": ["open", "ticker"]},
    {"group_by": ["ticker"], "split_by": ["e"], "expressions": {"e": '"open" * 3'}},
]


def test_a_view_that_is_too_large_is_refused_in_words_and_the_viewer_goes_on(site):
    async def scene(_):
        async with bare(site.port) as greedy:
            for config in LARGE_VIEWS:
                started = time.monotonic()
                error = await greedy.make_view("large", **config)
                assert "fewer values" in error, config
                assert in_time(time.monotonic() - started, ANSWER_S / 2), config
            assert await greedy.make_view("small", group_by=["ticker"]) == ""

    beside_an_honest_viewer(site, scene)


def test_each_aggregate_that_the_engine_offers_makes_a_view_or_is_refused_and_rows_come_on(site):
    few, none = ([pb.ViewConfig.Filter(column="open", op=">", value=[pb.Scalar(float=n)])] for n in (490, 1000))

    async def scene(_):
        async with bare(site.port) as viewer:
            features = pb.Features.FromString((await viewer.request("get_features")).get_features)
            schema = pb.TableSchema.FromString((await viewer.request("table_schema", TABLE)).table_schema).schema.schema
            for column in schema:
                aggregates = features.aggregates[column.type].aggregates
                for offered, rows in itertools.product(aggregates, (few, none)):
                    aggregate = pb.ViewConfig.Aggregate(aggregations=[offered.name, *["open"] * len(offered.args)])
                    config = {"group_by": ["ticker"], "filter": rows, "aggregates": {column.name: aggregate}}
                    error = await viewer.make_view("view", **config)
                    is_refused = offered.name == "avg" and column.type in (pb.DATE, pb.DATETIME)
                    is_refused |= offered.name == "high minus low"
                    assert ("is not known" in error) == is_refused, (column.name, offered.name, error)
                    assert is_refused or await viewer.error("view_to_csv", "view") == "", (column.name, offered.name)
                    await viewer.request("view_delete", "view")

    beside_an_honest_viewer(site, scene)


def test_a_whole_plain_table_can_be_exported_and_a_larger_view_not(site):
    async def scene(_):
        async with bare(site.port) as viewer:
            assert await viewer.make_view("plain") == ""
            assert await viewer.make_view("wide", expressions={f"e{k}": str(k) for k in range(12)}) == ""
            for kind, content in requests.READS.items():
                assert (await viewer.request(kind, "plain")).WhichOneof("kind") == kind
                assert "too much to be read at once" in await viewer.error(kind, "wide"), kind
                if kind != "view_to_ndjson_string":  # which is always whole
                    part = content(viewport=pb.ViewPort(start_row=0, end_row=50, start_col=0, end_col=50))
                    assert await viewer.error(kind, "wide", part) == "", kind

    beside_an_honest_viewer(site, scene)


def test_a_view_that_grows_beyond_the_bound_is_deleted_and_its_next_read_says_so(still):
    config = pb.ViewConfig(group_by=["client"], split_by=["open"])
    config.columns.columns.columns.extend(["open", "high", "low", "close", "volume", "client"])
    config.filter.add(column="ticker", op="==", value=[pb.Scalar(string="AAPL.N")])
    make = pb.MakeView(view_id="growing", config=config)

    async def scene():
        async with bare(still.port) as viewer:
            assert await viewer.error("table_make_view", TABLE, make) == ""
            assert await viewer.error("view_to_csv", "growing") == ""
            await asyncio.to_thread(still.engine, "add=2000")
            assert "more than 2,000" in await viewer.error("view_to_csv", "growing")
            assert (await viewer.request("view_delete", "growing")).WhichOneof("kind") == "view_delete"
            assert await viewer.make_view("growing", group_by=["ticker"]) == ""

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


def test_parts_beyond_a_view_are_cut_at_its_edge(still):
    async def scene():
        async with bare(still.port) as viewer:
            assert await viewer.make_view("grouped", group_by=["ticker"]) == ""
            for kind, content in requests.READS.items():
                for number in (14, 15, 2**31, 2**32 - 1):
                    for fields in ({"start_col": number}, {"start_row": number}, {"start_row": 5, "end_row": 2}):
                        port = pb.ViewPort(**fields)
                        assert await viewer.error(kind, "grouped", content(viewport=port)) == ""
            paths = pb.ColumnPaths(start_col=2**31, end_col=2**32 - 1)
            assert (await viewer.request("view_column_paths", "grouped", paths)).view_column_paths == b""
            for kind in ("view_collapse", "view_expand"):
                for row in (14, 2**31, 2**32 - 1):
                    assert "no row" in await viewer.error(kind, "grouped", pb.Row(row_index=row))
            assert "no 2 levels" in await viewer.error("view_set_depth", "grouped", pb.Depth(depth=2))
            assert await viewer.make_view("flat", group_by=["ticker"], group_rollup_mode=1) == ""
            assert "nothing to expand" in await viewer.error("view_set_depth", "flat", pb.Depth(depth=1))

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


def test_one_who_asks_all_the_time_waits_and_the_others_do_not(site):
    rows = itertools.count()  # where each read begins: none was answered already

    async def reads_at_once(greedy, each):
        """Seconds until so many reads of each of these are answered."""
        started = time.monotonic()
        for k in range(each + AHEAD):
            for one in greedy:
                if k < each:
                    port = pb.ViewPort(start_row=next(rows), end_row=20_000)
                    read = pb.ReadText(viewport=port).SerializeToString()
                    await one.send(requests.reply(next(one.numbers), "plain", "view_to_rows_string", read))
                if k >= AHEAD:
                    assert pb.ServerError.FromString((await one.answer()).server_error).message == ""
        return time.monotonic() - started

    async def scene(honest_viewer):
        async with contextlib.AsyncExitStack() as stack:
            one, *others = [await stack.enter_async_context(bare(site.port)) for _ in range(11)]
            for each in [one, *others]:
                assert await each.make_view("plain") == ""
            for _ in range(3):  # what a busy machine takes for all else hides the wait
                by_one = await reads_at_once([one], 20)
                by_many = await reads_at_once(others, 2)
                print(f"twenty reads: {by_one:.2f} s for one viewer, {by_many:.2f} s for ten")
                if by_one > 1.3 * by_many:  # who has to wait for the engine's time
                    break
            else:
                pytest.fail("one viewer has not waited longer than ten")
        assert honest_viewer.reads > 10

    beside_an_honest_viewer(site, scene)


def test_views_and_subscriptions_of_a_viewer_are_limited_and_free_again(still):
    async def scene():
        async with bare(still.port) as viewer:
            for k in range(one_viewer.MAX_VIEWS):
                assert await viewer.make_view(f"view {k}", group_by=["ticker"]) == ""
            assert "views already" in await viewer.make_view("more")
            await viewer.request("view_delete", "view 0")
            assert await viewer.make_view("more") == ""
            for number in range(1, one_viewer.MAX_SUBSCRIPTIONS + 1):
                await viewer.send(requests.reply(number, "more", "view_on_update", b""))
            assert "subscriptions already" in await viewer.error("view_on_update", "more")
            body = pb.Subscription(id=1).SerializeToString()
            await viewer.request("view_remove_on_update", "more", body)
            await viewer.send(requests.reply(1, "more", "view_on_update", b""))
            assert await viewer.error("get_features") == ""
            for name in ("", "more"):
                assert "name of its own" in await viewer.make_view(name)

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


def test_other_viewers_views_are_out_of_reach(still):
    async def scene():
        async with bare(still.port) as one, bare(still.port) as other:
            assert await one.make_view("mine", group_by=["ticker"]) == ""
            for kind in [*requests.OF_VIEWS, *requests.READS, *requests.TOGGLES, "view_on_update"]:
                assert await other.error(kind, "mine") == "View not found"
            assert await other.make_view(TABLE, group_by=["client"]) == ""  # a name means nothing to others
            assert await other.error("view_delete", TABLE) == ""
            assert await one.error("view_to_csv", "mine") == ""
            assert (await one.request("table_size", TABLE)).WhichOneof("kind") == "table_size"

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


def test_every_kind_with_nothing_in_it_is_answered_and_the_connection_stays(still):
    async def scene():
        async with bare(still.port) as viewer:
            for kind in sorted(requests.KINDS):
                if kind not in requests.SUBSCRIBE:
                    assert (await viewer.request(kind, "nothing")).WhichOneof("kind") in (kind, "server_error")
                    assert await viewer.request(kind, TABLE) is not None
            port = (await viewer.request("table_make_port", TABLE)).table_make_port
            assert port == (await viewer.request("table_make_port", TABLE)).table_make_port  # the engine would count

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


# Expressions and tables


def test_what_a_user_types_is_answered_beside_what_was_typed_before(still):
    async def scene():
        async with viewer(still.port) as table:
            typed = {
                "good": '"open" + 1',
                "half": '"for',
                "bad": 'bucket("ticker", 1)',
                "loop": "while (true) { 1; }; 1",
            }
            result = await table.validate_expressions(typed)
            assert result["expression_schema"] == {"good": "float"}
            assert result["errors"].keys() == {"half", "bad", "loop"}
            assert result["expression_alias"] == typed
            with pytest.raises(perspective.PerspectiveError, match="bad: bucket"):
                await table.view(expressions={"bad": typed["bad"]})
            view = await table.view(expressions={"good": typed["good"]}, columns=["good", "open"])
            columns = await view.to_columns(end_row=1)
            assert columns["good"][0] == pytest.approx(columns["open"][0] + 1)

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


# The same as alone


def random_config(chance):
    by = chance.sample(["ticker", "client", "date"], chance.randrange(3))
    columns = chance.sample(["open", "high", "low", "close", "volume", "ticker", "client"], chance.randint(1, 4))
    config = {"group_by": by, "columns": columns, "aggregates": {}}
    if chance.random() < 0.3 and by:
        config["split_by"] = chance.sample(["ticker", "client"], 1)
    if chance.random() < 0.4:
        config["filter"] = [["open", ">", chance.randrange(400)], ["client", "in", ["Homer", "Lisa", "Moe"]]]
    if chance.random() < 0.4:
        config["sort"] = [[chance.choice(columns), chance.choice(["asc", "desc"])]]
    if chance.random() < 0.4:
        config["expressions"] = {"e": '("close" - "open") / "open" * 100'}
        config["columns"].append("e")
    for column in columns:
        if chance.random() < 0.5:
            config["aggregates"][column] = chance.choice(["last", "first", "count", "any"])
    return config


def test_shared_views_show_what_each_viewer_would_see_alone_also_after_new_rows(small):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    configs = [random_config(chance) for _ in range(12)]
    local = perspective.Server().new_local_client().table(make_rows(500, 0), limit=1000)
    alone = [local.view(**config) for config in configs]

    async def compare(shared):
        for k, views in enumerate(shared):
            whole = alone[k].to_columns()
            for view in views:
                assert await view.to_columns() == whole, configs[k]
                assert await view.to_columns(start_row=2, end_row=9) == alone[k].to_columns(start_row=2, end_row=9)
                assert await view.dimensions() == alone[k].dimensions()

    async def scene():
        async with viewer(small.port) as one, viewer(small.port) as other:
            shared = [[await table.view(**config) for table in (one, other)] for config in configs]
            await compare(shared)
            for serial in (-1, -2, -3):  # the last rows push out the first
                await asyncio.to_thread(small.engine, "add=300")
                local.update(make_rows(300, serial))
                await compare(shared)
            for k, config in enumerate(configs):  # from now on one of each pair is of its viewer alone
                if config["group_by"] and "split_by" not in config:
                    await shared[k][0].collapse(0)
                    assert await shared[k][0].num_rows() == 1
                    assert await shared[k][1].num_rows() == alone[k].num_rows()
                    shared[k].pop(0)
            await compare(shared)

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


# Who may connect


ORIGINS = Origins("0.0.0.0", ["https://demo.example", "http://demo.example:9000/"], True, ["proxied.example"])


def test_names_of_ours_and_addresses_are_known_and_others_not():
    for host in "localhost:8080 127.0.0.1 [::1]:8080 192.0.2.7:80 PROXIED.example demo.example".split():
        assert ORIGINS.knows_host(host), host
    for host in "evil.example evil.example:8080 localhost.evil.example 127.0.0.1.evil.example [::1 localhost:x".split():
        assert not ORIGINS.knows_host(host), host
    assert not ORIGINS.knows_host("")
    assert not ORIGINS.knows_host("a b")


def test_refusals_of_a_host_are_one_line_a_minute_and_all_of_them_are_counted(small):
    async def scene():
        for _ in range(20):
            async with bare(small.port) as attacker:
                await attacker.send(encode((1, 1), (2, b"\xff\xfe"), (8, b"")))
                assert await attacker.closed() == 1008

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))
    assert small.health()["refused"] == {"request": 20}
    assert small.log().count("refused: ") == 1
    assert "protobuf" not in small.log()


# The last one with that table


def test_a_table_that_comes_is_announced_and_one_that_is_hosted_anew_disconnects_its_viewers(small):
    async def scene():
        async with bare(small.port) as watching, bare(small.port) as looking:
            await watching.send(encode((1, 7), (4, encode((1, 1)))))
            assert await watching.error("get_features") == ""  # so the first has come, too
            assert await looking.make_view("view", group_by=["ticker"]) == ""
            await asyncio.to_thread(small.engine, "host")
            assert (await watching.answer()).msg_id == 7
            assert await asyncio.to_thread(small.engine, "anew") == 200
            assert await looking.closed() == 1012
            assert await watching.error("get_features") == ""
        async with viewer(small.port) as table:
            assert await table.schema() == {"b": "string"}
            assert await (await table.view()).to_columns() == {"b": ["text"]}

    asyncio.run(asyncio.wait_for(scene(), SCENE_S))


# By chance


def test_generated_expressions_and_requests(site):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    asked = {"expressions": 0, "requests": 0}

    async def expressions(count):
        async with bare(site.port) as one:
            for _ in range(count):
                text = generated.expression(chance)
                assert await one.request("table_validate_expr", TABLE, pb.Expressions(column_to_expr={"e": text}))
                asked["expressions"] += 1

    async def views(count):
        async with bare(site.port) as one:
            while asked["requests"] < count:
                content = pb.MakeView(view_id="view", config=generated.config(chance))
                assert await one.request("table_make_view", TABLE, content)
                kinds = [*requests.READS, *requests.TOGGLES, *requests.OF_VIEWS]
                for kind in chance.sample(kinds, 5):
                    assert await one.request(kind, "view", generated.content(chance, kind))
                    asked["requests"] += 1
                await one.request("view_delete", "view")

    async def scene(_):
        count = int(20_000 * AMOUNT)
        await asyncio.gather(*(expressions(count // 4) for _ in range(4)), *(views(count) for _ in range(4)))
        assert min(asked.values()) >= count // 4 * 4
        assert sum((await asyncio.to_thread(site.health))["restarts"].values()) == 0

    beside_an_honest_viewer(site, scene)


def test_random_views_and_reads_of_three_clients_take_no_memory_for_good(site):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    until = time.monotonic() + 60 * max(AMOUNT, 0.02)

    async def client():
        async with bare(site.port) as one:
            while time.monotonic() < until:
                content = pb.MakeView(view_id="view", config=generated.config(chance))
                await one.request("table_make_view", TABLE, content)
                await one.request(chance.choice(list(requests.READS)), "view")
                await one.request("view_delete", "view")

    async def scene(_):
        await asyncio.gather(*(client() for _ in range(3)))
        assert resident_mb(site.health()["pid"]) < 400

    beside_an_honest_viewer(site, scene)


def test_pages_that_open_at_once_again_and_again(site):
    prices = {
        "group_by": ["second"],
        "split_by": ["ticker"],
        "columns": ["close"],
        "aggregates": {"close": "last"},
        "expressions": {"second": "bucket(\"timestamp\", '1s')"},
        "filter": [["ticker", "in", ["AAPL.N", "AMZN.N", "NVDA.N", "TSLA.N"]]],
    }

    async def page():
        async with viewer(site.port) as table:
            view = await table.view(**prices)
            with contextlib.suppress(perspective.PerspectiveError):
                await view.to_arrow()

    async def scene(_):
        for _ in range(max(int(50 * AMOUNT), 2)):
            await asyncio.gather(*(page() for _ in range(20)))
        assert sum((await asyncio.to_thread(site.health))["restarts"].values()) == 0

    beside_an_honest_viewer(site, scene)


def test_the_bounds_of_reads_leave_room_for_the_default_limit():
    whole = pb.Dimensions(num_view_rows=20_000, num_view_columns=15)
    for kind, content in requests.READS.items():
        costs.bounded(kind, content(), whole)
