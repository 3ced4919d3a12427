"""Prints what a viewer sees of a table as JSON: python tests/read_table.py WS_URL TABLE [CONFIG of a view as JSON]"""

import asyncio
import json
import sys

import perspective
import tornado.websocket


async def main(url, name, config="{}"):
    socket = await tornado.websocket.websocket_connect(url, connect_timeout=5, max_message_size=2**30)
    client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))

    async def receive():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)

    receiving = asyncio.create_task(receive())
    table = await client.open_table(name)
    view = await table.view(**json.loads(config))
    columns = json.loads(await view.to_columns_string())
    print(json.dumps({"schema": await table.schema(), "columns": columns}))
    receiving.cancel()


asyncio.run(main(*sys.argv[1:]))
