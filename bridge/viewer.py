"""One viewer: its views, which it may share with others, and its subscriptions."""

from . import perspective_pb2 as pb
from . import requests
from .requests import SUBSCRIBE, TOGGLES, UNSUBSCRIBE, Invalid, ViewNotFound

MAX_VIEWS = 32
MAX_SUBSCRIPTIONS = 128
NO_PORT = pb.Port(port_id=1).SerializeToString()


class Viewer:
    """send(message) sends bytes to the viewer, charge(seconds) pays for the engine's time; `shared` is SharedViews."""

    def __init__(self, shared, send, charge):
        self.shared, self.send, self.charge = shared, send, charge
        self.views = {}  # by the viewer's names: View, and its request to make it
        self.tables = set()  # whose views it has, or had
        self.subscriptions = {}  # number: (kind, name of the view or table, body)

    def known(self, request):
        """The tail of an answer that another viewer got already, or None."""
        view = self.views.get(request.entity)
        if view is None or request.kind in TOGGLES or request.kind in SUBSCRIBE:
            return None
        return view.answers.get((request.kind, requests.encode(request.content)))

    async def answer(self, request):
        """The tail of the answer to a request, None when it is a subscription; Invalid when there is none."""
        kind = request.kind
        if kind in SUBSCRIBE or kind == "get_hosted_tables" and request.content.subscribe:
            return await self.subscribe(request)
        if kind in UNSUBSCRIBE:
            await self.unsubscribe(request.content.id)
            return requests.tail(kind, b"")
        if kind == "table_make_port":  # the engine would keep each for ever, and look at all of them at each update
            return requests.tail(kind, NO_PORT)
        if kind == "table_make_view":
            return await self.make_view(request)
        if kind == "table_validate_expr":
            return await self.shared.validate(request, self.charge)
        if not kind.startswith("view_"):
            return await self.shared.answer_table(request, self.charge)
        view = self.view(request.entity)
        if kind == "view_delete":
            return await self.delete_view(request)
        if kind in TOGGLES:
            check_toggle(view.config, request.content)
            return await self.shared.toggle(await self.own_view(request.entity), request, self.charge)
        return await self.shared.answer(view, request, self.charge)

    def view(self, name):
        if name not in self.views:
            raise ViewNotFound("View not found")
        return self.views[name]

    async def make_view(self, request):
        name, table = request.content.view_id, request.entity
        if not name or name in self.views:
            raise Invalid("A view needs a name of its own.")
        if len(self.views) >= MAX_VIEWS:
            raise Invalid(f"There are {MAX_VIEWS} views already.")
        self.tables.add(table)
        self.views[name] = await self.shared.join(table, request.content.config, self.charge)
        return requests.tail(request.kind, pb.MakeView(view_id=name).SerializeToString())

    async def own_view(self, name):
        """A view that nobody else sees, in place of the shared one, with the same subscriptions."""
        view = self.views[name]
        if view.own:
            return view
        own = self.views[name] = await self.shared.split(view, self.charge)
        for number, (kind, entity, body) in self.subscriptions.items():
            if kind == "view_on_update" and entity == name:
                await self.shared.unsubscribe(view, self, number)
                await self.shared.subscribe(own, body, self, number, name)
        await self.shared.leave(view)
        return own

    async def delete_view(self, request):
        view = self.views[request.entity]
        for number, (kind, entity, _) in list(self.subscriptions.items()):
            if entity == request.entity and kind.startswith("view_"):
                await self.unsubscribe(number)
                if kind == "view_on_delete":
                    self.send(requests.head(number, entity) + requests.tail(kind, b""))
        del self.views[request.entity]
        await self.shared.leave(view)
        return requests.tail(request.kind, b"")

    async def subscribe(self, request):
        number, kind, entity = request.number, request.kind, request.entity
        if number in self.subscriptions:
            raise Invalid("There is a subscription of this number.")
        if len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Invalid(f"There are {MAX_SUBSCRIPTIONS} subscriptions already.")
        body = requests.encode(request.content)
        if kind == "get_hosted_tables":
            await self.shared.subscribe_hosted(self, number)
        elif kind == "view_on_update":
            await self.shared.subscribe(self.view(entity), body, self, number, entity)
        self.subscriptions[number] = kind, entity, body

    async def unsubscribe(self, number):
        kind, entity, _ = self.subscriptions.pop(number, (None, None, None))
        if kind == "get_hosted_tables":
            self.shared.unsubscribe_hosted(self, number)
        elif kind == "view_on_update" and entity in self.views:
            await self.shared.unsubscribe(self.views[entity], self, number)

    async def close(self):
        for number in list(self.subscriptions):
            await self.unsubscribe(number)
        views, self.views = self.views, {}
        for view in views.values():
            await self.shared.leave(view)


def check_toggle(config, content):
    """The engine crashes on levels that there are not."""
    if config.group_rollup_mode != pb.ViewConfig.GROUP_ROLLUP or not config.group_by:
        raise Invalid("There is nothing to expand or collapse in this view.")
    if isinstance(content, pb.Depth) and content.depth > len(config.group_by):
        raise Invalid(f"There are no {content.depth} levels.")
