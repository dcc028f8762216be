"""Replies with what it got. The smallest plugin there is, not a template for larger ones."""

from wit_world import exports
from wit_world.exports.handler import Request, Route, RouteKind
from wit_world.imports.types import Payload, Status


class Handler(exports.Handler):
    """What the host calls."""

    def routes(self) -> list[Route]:
        return [Route("echo", RouteKind.COMMAND, "Replies with the content it got", None)]

    def handle(self, request: Request) -> Payload:
        # Headers of a reply are changes on top of the request's, so the content type stays.
        return Payload(request.message.payload.content, [], Status.SUCCESS)
