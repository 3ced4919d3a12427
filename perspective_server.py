#!/usr/bin/env python3
"""Polls TDengine for the last second of rows and serves them as live Perspective tables at /websocket.

    python perspective_server.py [--dataset stocks|meters|all] [--table DB.TABLE] [--dsn DSN] [--interval MS] [--port P]

Rows that were shown already are left out; the rest goes into Perspective tables with a limit, which browsers read and
subscribe to. They may look, not touch. minimal.py shows the same idea in one file.
"""

import sys

from bridge import options

with options.needs():
    import tornado.ioloop
    import tornado.web

    from bridge import server, supervisor, tdengine, web
    from bridge.engine import Engine
    from bridge.feed import Feed
    from bridge.polls import is_due, until_in_step
    from bridge.report import log_to_stderr
    from bridge.subscription import SubscribedFeed
    from bridge.viewers import ReadOnlyHandler, Viewers

# The demo's tables: database, table, and the name of the Perspective table. Columns and types are read from TDengine.
DATASETS = {"stocks": ("stocks", "stocks_values", "stock_values"), "meters": ("power", "meters", "meters_values")}
DATES = {"stocks": ["date"]}  # TIMESTAMP columns that stand for a calendar date


# ANCHOR: perspective_server
async def read_tdengine(table, where, limit=20_000):
    """The newest rows of a table that match, newest first, as an Arrow table.

    taosws holds Python's interpreter lock while it waits: so the query runs in a child process (bridge/child.py), which
    is replaced when a call hangs. No viewer notices a slow or dead database.
    """
    return await table.reader.query(
        f"SELECT {table.select} FROM {table.name} WHERE {where} ORDER BY {table.time} DESC LIMIT {limit}",
        table.columns,
    )


def perspective_thread(engine, viewers, table, args, place):
    """Feeds one Perspective table, every interval, with the rows that it does not hold yet.

    All calls into Perspective are made in the engine's one thread: from several it crashes.
    """
    hosted = None

    async def show(rows):
        nonlocal hosted
        if hosted is None:  # hosted together with its first rows: an empty table with grouped views freezes the engine
            hosted = await engine.run(engine.client.table, rows, limit=args.limit, name=table.title)
        else:
            await engine.run(hosted.update, rows)

    async def drop():  # its columns have changed; the next rows make it anew
        nonlocal hosted
        if hosted is not None:
            await viewers.drop_table(table.title)
            await engine.run(hosted.delete)
        hosted = None

    # after a crash of the engine: what was shown since the start
    past = {"history_s": args.history + place.age_ms // 1000, "resumed": any(place.restarts.values())}
    if args.source == "subscribe":
        feed = SubscribedFeed(args.dsn, table, read_tdengine, show, args.limit, **past)
    else:
        feed = Feed(table, read_tdengine, show, args.limit, **past)

    async def updater():  # Tornado awaits it: one at a time, ticks that fall due meanwhile are skipped
        if is_due(feed, viewers, args.interval):  # more rarely while nobody looks
            await feed.refresh(drop)
            await feed.tick()

    callback = tornado.ioloop.PeriodicCallback(updater, args.interval)
    tornado.ioloop.IOLoop.current().call_later(until_in_step(args.interval), callback.start)
    tornado.ioloop.PeriodicCallback(feed.compare, 1000).start()  # rows that come late, or from other clocks
    return feed


def make_app(viewers, feeds, prefix=""):
    """Perspective's WebSocket, for viewers that may look but not touch; the page, its modules, /healthz, /metrics."""
    return tornado.web.Application(
        [(rf"{prefix}/websocket", ReadOnlyHandler, {"viewers": viewers}), *web.routes(feeds, viewers, prefix)],
        **web.SETTINGS,
    )


# ANCHOR_END: perspective_server


async def serve(args, place):
    """Runs until place.stopping is set, in a child process that is replaced when Perspective's engine crashes."""
    engine = Engine(place.mark)
    viewers = Viewers(engine, place, **options.of_viewers(args))
    reader = tdengine.Reader(args.dsn)
    feeds = []
    for database, name, title, dataset in args.tables:
        table = tdengine.Table(reader, database, name, title, dataset, DATES.get(dataset, ()))
        feeds.append(perspective_thread(engine, viewers, table, args, place))
    async with server.listening(make_app(viewers, feeds, args.prefix), args, place, viewers):
        await place.stopping.wait()
    for each in [*feeds, reader, engine]:
        each.close()


def main():
    args = options.server(__doc__, DATASETS)
    log_to_stderr(args.log_level)
    return supervisor.run(serve, args)


if __name__ == "__main__":
    sys.exit(main())
