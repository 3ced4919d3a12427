"""What a viewer sees of a table, as {"schema": ..., "columns": ...}."""

import asyncio
import concurrent.futures
import json

import perspective
import tornado.websocket


async def read(url, name, config):
    socket = await tornado.websocket.websocket_connect(url, max_message_size=2**30)
    client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))

    async def receive():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)

    receiving = asyncio.create_task(receive())
    table = await client.open_table(name)
    view = await table.view(**config)
    columns = json.loads(await view.to_columns_string())
    found = {"schema": await table.schema(), "columns": columns}
    receiving.cancel()
    socket.close()
    return found


def see(url, name, timeout=60, **config):
    """A table as a view with this config shows it; perspective's error as it is, TimeoutError after so many seconds."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # Playwright's loop may run in this one
        return thread.submit(asyncio.run, asyncio.wait_for(read(url, name, config), timeout)).result()
