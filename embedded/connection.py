"""What both kinds of WebSocket connection share: requests are carried out several at once, each gets its reply."""

import asyncio

import tornado.websocket

MAX_AT_ONCE = 32  # requests of one connection


class Connection(tornado.websocket.WebSocketHandler):
    """A subclass has respond(message), a coroutine: the reply as text or bytes, or None for none."""

    def initialize(self, pool):
        self.pool = pool
        self.turn, self.tasks = asyncio.Semaphore(MAX_AT_ONCE), set()

    async def on_message(self, message):
        await self.turn.acquire()
        task = asyncio.get_running_loop().create_task(self.answer(message))
        self.tasks.add(task)  # the loop itself keeps none
        task.add_done_callback(self.tasks.discard)

    async def answer(self, message):
        try:
            reply = await self.respond(message)
            if reply is not None:
                await self.write_message(reply, binary=isinstance(reply, bytes))
        except tornado.websocket.WebSocketClosedError:
            pass
        finally:
            self.turn.release()

    async def in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)
