"""Counts earthquakes by region and raises alerts: the plugin `quakes`, in Python, on the raw bindings.

What belongs to neither of its two handlers: routes, and how an exception becomes an outcome that the host understands.
"""

import traceback
from typing import Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import (
    Failure_Failed,
    Failure_Rejected,
    Failure_Retry,
    Request,
    RetryLater,
    Route,
    RouteKind,
)
from wit_world.imports import log, publisher, state
from wit_world.imports.types import Payload

# Everything is imported here, at build time: the finished component has no files to import from.
from feature import Rejected
from record import Misconfigured, record
from stats import stats

ROUTES = [
    (Route("quake.recorded", RouteKind.EVENT, "Counts a quake, and raises an alert if it is a strong one.", None), record),
    (Route("quake.stats", RouteKind.QUERY, "Says how many quakes there were, where, and which was the strongest.", None), stats),
]

# What the host refused. What may pass is tried again; the rest fails.
Unavailable = state.StateError_Unavailable
Refused = (
    state.StateError_Forbidden,
    state.StateError_Limit,
    publisher.PublishError_Forbidden,
    publisher.PublishError_Invalid,
    publisher.PublishError_Limit,
)


class Handler(exports.Handler):
    """What the host calls."""

    def routes(self) -> list[Route]:
        return [route for route, _ in ROUTES]

    def handle(self, request: Request) -> Optional[Payload]:
        _, handler = ROUTES[request.route]
        try:
            return handler(request.message.payload.content)
        except Rejected as error:
            raise Err(Failure_Rejected(str(error))) from error
        except Misconfigured as error:
            raise Err(Failure_Failed(str(error))) from error
        except Err as error:
            raise Err(failure(error.value)) from error
        except Exception as error:
            report(error)
            raise


def failure(refusal: object) -> object:
    """The outcome of a handler that was refused something and didn't mind."""
    match refusal:
        case Unavailable(reason):
            return Failure_Retry(RetryLater(reason, None))
        case Refused():
            return Failure_Failed(refusal.value)
        case _:
            return Failure_Failed("a stored value is not a number")


def report(error: Exception) -> None:
    """Writes the traceback into the host's log. Python itself would look for the source files, and there are none."""
    lines = [f"{type(error).__name__}: {error}"]
    # The last ones are where it happened; an endless recursion has a thousand.
    for frame, line in list(traceback.walk_tb(error.__traceback__))[-20:]:
        lines.append(f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}")
    for text in lines:
        log.log(log.Level.ERROR, text, [])
