"""Views of equal shape are made once, and equal questions about them answered once, until their table changes.

On every update the engine works some milliseconds for each grouped view, and for each read of it: a hundred viewers of
one layout would need more than it can do. A viewer that collapses or expands rows gets a view of its own.
"""

import asyncio
import secrets

from . import perspective_pb2 as pb
from . import requests
from .answers import MAX_ANSWERS, Answers
from .costs import bounded, check_size
from .requests import Invalid
from .session import Session
from .subscribers import Subscribers

MAX_UPDATE_S = 1.0  # no more views than FEW are made while an update takes longer
FEW = 4  # which is not what they cost: an update of a table of thousands of columns takes long without any view
BANNED = "The engine has crashed on this request: it is refused until the server is started anew."


class View:
    """A view of the engine's, and those who use it."""

    def __init__(self, engine, table, config):
        self.table, self.config, self.name = table, config, secrets.token_urlsafe(16)
        self.context = table.encode() + b"\0" + requests.encode(config)  # what it shows
        self.users, self.own, self.made = 0, False, None  # how many use it; only one ever; a future of its making
        self.in_engine, self.gone = False, None  # whether it has been made there, and why it is there no more
        self.answers = Answers(engine)
        self.dimensions = (None, None)  # engine.changes then, and what they were
        self.updates = {}  # body of the subscription (its mode): its number


class SharedViews:
    """All views of all viewers, by way of one session with the engine."""

    def __init__(self, engine, banned):
        self.engine, self.banned, self.loop = engine, banned, asyncio.get_running_loop()
        self.subscribers = Subscribers(self.loop)
        self.session = Session(
            engine.server, lambda *event: self.loop.call_soon_threadsafe(self.subscribers.deliver, *event)
        )
        self.shapes, self.views = {}, set()  # by what they show: the shared ones; all
        self.tables = {}  # name of a table: Answers
        self.hosted = None  # number of the subscription to the list of tables
        engine.after_update.append(self.delete_grown)

    async def call(self, kind, context, content, charge, function, *args):
        """The result of a function that is called in the engine's thread, unless this has killed an engine."""
        digest = requests.digest(kind, context, requests.encode(content))
        if digest in self.banned:
            raise Invalid(BANNED)
        return await self.engine.request((kind, digest, requests.describe(content)), charge, function, *args)

    # Tables

    async def answer_table(self, request, charge):
        """The tail of the answer to what is asked about a table, or about no table in particular."""
        kind, body = request.kind, requests.encode(request.content)

        def ask():
            changes = self.engine.changes
            return changes, requests.tail(kind, self.session.ask(kind, request.entity, body))

        answers = self.tables.setdefault(request.entity, Answers(self.engine))
        if len(self.tables) > MAX_ANSWERS:
            self.tables.clear()
        context = request.entity.encode()
        return await answers.get_or_make((kind, body), lambda: self.call(kind, context, request.content, charge, ask))

    async def room(self, table, charge):
        """Bytes that a view of all columns of a table may take to describe; 0 when there is no such table."""
        try:
            answer = await self.answer_table(requests.Request(0, "table_schema", table, pb.Nothing()), charge)
        except Invalid:
            return 0
        return requests.room_of(pb.Envelope.FromString(answer).table_schema)

    async def validate(self, request, charge):
        texts, context = dict(request.content.column_to_expr), request.entity.encode()
        result = await self.call(
            request.kind, context, request.content, charge, self.session.validate, request.entity, texts
        )
        return requests.tail(request.kind, result.SerializeToString())

    async def subscribe_hosted(self, viewer, number):
        if self.hosted is None:
            self.hosted = next(self.session.numbers)
            body = pb.HostedTables(subscribe=True).SerializeToString()
            await self.subscribe_in_engine(self.hosted, "get_hosted_tables", "", body)
        self.subscribers.add(self.hosted, viewer, number, "")

    def unsubscribe_hosted(self, viewer, number):
        self.subscribers.remove(self.hosted, viewer, number)

    # Views

    async def join(self, table, config, charge):
        """A View that shows this; Invalid when it can't be made."""
        view = View(self.engine, table, config)
        if view.context in self.shapes:
            view = self.shapes[view.context]
        else:
            self.shapes[view.context] = view
            view.made = asyncio.ensure_future(self.make(view, charge))
        view.users += 1
        try:
            await asyncio.shield(view.made)
        except BaseException:
            view.users -= 1
            raise
        return view

    async def split(self, view, charge):
        """A View of the same, for one viewer alone."""
        own = View(self.engine, view.table, view.config)
        own.users, own.own = 1, True
        await self.make(own, charge)
        return own

    async def make(self, view, charge):
        try:
            if self.engine.update_s > MAX_UPDATE_S and len(self.views) >= FEW:
                raise Invalid("The server is at its limit: no more views for now.")
            context, kind = view.table.encode(), "table_make_view"
            digest = requests.digest(kind, context, requests.encode(view.config))
            self.views.add(view)
            await self.call(kind, context, view.config, charge, self.make_in_engine, view, digest)
        except BaseException as error:
            view.gone = str(error)
            self.forget(view)
            raise

    def make_in_engine(self, view, digest):
        self.session.check_view(view.table, view.config)
        self.engine.mark.add_young(digest)  # also of one that fails: something of it may be left in the engine
        self.session.make_view(view.table, view.name, view.config)
        view.in_engine = True

    def forget(self, view):
        self.views.discard(view)
        if self.shapes.get(view.context) is view:
            del self.shapes[view.context]

    async def leave(self, view):
        view.users -= 1
        if not view.users and view in self.views:
            self.forget(view)
            await self.engine.request(("view_delete",), None, self.delete_in_engine, view)

    def delete_in_engine(self, view, why="This view has been deleted."):
        if view.gone is None:
            view.gone = why
            self.session.ask("view_delete", view.name)

    def delete_grown(self):
        """After an update, in the engine's thread: a view with more columns than it may have is deleted."""
        for view in [view for view in self.views.copy() if view.config.split_by and view.in_engine]:
            try:
                check_size(view.config, self.size(view))
            except Invalid as error:
                self.delete_in_engine(view, str(error))
                self.loop.call_soon_threadsafe(self.forget, view)

    async def drop(self, table):
        """Deletes all views of a table, and forgets its columns."""
        views = [view for view in self.views if view.table == table]
        for view in views:
            self.forget(view)
        await self.engine.run(lambda: [self.delete_in_engine(view) for view in views])
        self.session.forget(table)
        self.tables.pop(table, None)

    # What is asked about views

    def size(self, view):
        """The view's dimensions, in the engine's thread."""
        changes, size = view.dimensions
        if changes != self.engine.changes:
            size = self.session.dimensions(view.name)
            view.dimensions = self.engine.changes, size
        return size

    def look(self, view, kind, content):
        """(engine.changes, tail) of the answer, in the engine's thread."""
        if view.gone:
            raise Invalid(view.gone)
        content = bounded(kind, content, self.size(view))
        return self.engine.changes, requests.tail(kind, self.session.ask(kind, view.name, requests.encode(content)))

    async def answer(self, view, request, charge):
        kind, content = request.kind, request.content
        return await view.answers.get_or_make(
            (kind, requests.encode(content)),
            lambda: self.call(kind, view.context, content, charge, self.look, view, kind, content),
        )

    async def toggle(self, view, request, charge):
        """Collapses or expands rows of a view that one viewer has for itself."""

        def toggle():
            tail = self.look(view, request.kind, request.content)[1]
            view.dimensions = None, None
            return tail

        try:
            return await self.call(request.kind, view.context, request.content, charge, toggle)
        finally:
            view.answers.found.clear()

    async def subscribe(self, view, body, viewer, number, entity):
        """The viewer hears of updates of the view; `body` says with what in them."""
        is_first = body not in view.updates
        if is_first:
            view.updates[body] = next(self.session.numbers)
        self.subscribers.add(view.updates[body], viewer, number, entity)
        if is_first:
            await self.subscribe_in_engine(view.updates[body], "view_on_update", view.name, body)

    async def subscribe_in_engine(self, *subscription):
        await self.engine.request((subscription[1],), None, self.session.subscribe, *subscription)

    async def unsubscribe(self, view, viewer, number):
        for body, ours in list(view.updates.items()):
            if self.subscribers.remove(ours, viewer, number):
                del view.updates[body]
                await self.engine.request(("view_remove_on_update",), None, self.stop_in_engine, view, ours)

    def stop_in_engine(self, view, number):
        if not view.gone:
            self.session.ask("view_remove_on_update", view.name, pb.Subscription(id=number).SerializeToString())
