"""The server's one session with Perspective's engine, for all viewers: requests in its protocol, and their answers.

Everything here is called in the engine's thread (bridge/engine.py), but for `on_event`, which is told where to go.
"""

import itertools

from . import costs, expressions, requests, view_config
from . import perspective_pb2 as pb
from .expression_tokens import Error
from .requests import Invalid

KINDS = {  # of values in expressions, by the type of a column
    pb.STRING: "text",
    pb.DATE: "date",
    pb.DATETIME: "datetime",
    pb.INTEGER: "number",
    pb.FLOAT: "number",
    pb.BOOLEAN: "boolean",
}


class Session:
    """Asks the engine. `on_event(number, tail)` gets what comes of the subscription of this number."""

    def __init__(self, server, on_event):
        self.session = server.new_session(self.receive)
        self.on_event, self.numbers = on_event, itertools.count(1)
        self.asked = self.answer = None
        self.schemas = {}  # table: {column: type}
        self.features, self.counts = None, costs.Counts(self)

    def receive(self, message):
        """Called by the engine, for answers while it handles the request."""
        response = pb.Envelope.FromString(message)
        if response.msg_id == self.asked:
            self.answer = response
        else:
            kind = response.WhichOneof("kind")
            self.on_event(response.msg_id, requests.tail(kind, getattr(response, kind)) if kind else b"")

    def ask(self, kind, entity="", body=b""):
        """The body of the answer, bytes; Invalid when it is an error."""
        self.asked, self.answer = next(self.numbers), None
        try:
            self.session.handle_request(requests.reply(self.asked, entity, kind, body))
        except Exception as error:  # the engine has answered with an exception instead
            raise Invalid(str(error)) from None
        finally:
            self.asked = None
        if self.answer is None:
            raise Invalid("Perspective has not answered")
        found = self.answer.WhichOneof("kind")
        if found == "server_error":
            raise Invalid(pb.ServerError.FromString(self.answer.server_error).message)
        return getattr(self.answer, found) if found else b""

    def subscribe(self, number, kind, entity="", body=b""):
        """Events come with this number from now on."""
        self.session.handle_request(requests.reply(number, entity, kind, body))

    def columns(self, table):
        """{column: type} of a table."""
        if table not in self.schemas:
            schema = pb.TableSchema.FromString(self.ask("table_schema", table)).schema
            self.schemas[table] = {each.name: each.type for each in schema.schema}
        return self.schemas[table]

    def validate(self, table, texts):
        """(types, errors) of expressions, {name: text}: what is harmful does not reach the engine."""
        kinds = {name: KINDS[each] for name, each in self.columns(table).items()}
        harmless, result = {}, pb.ValidatedExpressions()
        for name, text in texts.items():
            try:
                expressions.check(text, kinds)
                harmless[name] = text
            except Error as error:
                result.errors[name].error_message = str(error)
                result.errors[name].line, result.errors[name].column = error.line, error.column
        if harmless:
            content = pb.Expressions(column_to_expr=harmless)
            result.MergeFromString(self.ask("table_validate_expr", table, content.SerializeToString()))
        result.expression_alias.update(texts)
        return result

    def dimensions(self, view):
        return pb.Dimensions.FromString(self.ask("view_dimensions", view))

    def check_view(self, table, config):
        """Puts a config in order; Invalid when no view can be made of it, or it would cost too much."""
        if self.features is None:
            self.features = view_config.Features(self.ask("get_features"))
        validated = self.validate(table, config.expressions)
        for name, error in validated.errors.items():
            raise Invalid(f"{name}: {error.error_message}")
        view_config.check_config(config, self.columns(table), dict(validated.expression_schema), self.features)
        self.counts.check_view(table, config)

    def make_view(self, table, view, config):
        """Makes a view that check_view() has let through; Invalid when the engine can't, or it is too large."""
        self.ask("table_make_view", table, pb.MakeView(view_id=view, config=config).SerializeToString())
        try:
            costs.check_size(config, self.dimensions(view))
        except Invalid:
            self.ask("view_delete", view)
            raise

    def forget(self, table):
        """For when it is hosted anew, with other columns."""
        self.schemas.pop(table, None)
        self.counts.found.clear()
