"""Does what a handler must not do, and some of what an interpreter does differently: raises, loops, eats memory, prints,
remembers. For tests only.
"""

import random
import sys
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Failure_Rejected, Request, Route, RouteKind
from wit_world.imports import log, system
from wit_world.imports.types import Payload, Status

# What earlier messages left; empty where each message has an instance of its own.
KEPT: list[bytes] = []


def explode(content: bytes) -> bytes:
    """Raises two calls deep, so that a traceback has something to show."""
    return divide(len(content))


def divide(number: int) -> bytes:
    return bytes(number // 0)


def loop(_: bytes) -> bytes:
    while True:
        pass


def hog(_: bytes) -> bytes:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def greed(_: bytes) -> bytes:
    """Wants too much, and makes do with less."""
    try:
        return str(len(bytearray(1 << 30))).encode()
    except MemoryError:
        return b"made do"


def recurse(content: bytes) -> bytes:
    return recurse(content)


def reject(content: bytes) -> bytes:
    raise Err(Failure_Rejected(content.decode()))


def leave(_: bytes) -> bytes:
    sys.exit(3)


def keep(content: bytes) -> bytes:
    before = b"".join(KEPT)
    KEPT.append(content)
    return before


def chance(_: bytes) -> bytes:
    return f"{system.now()} {system.uuid()}".encode()


def baked(_: bytes) -> bytes:
    """Python's own generator, whose state was made at build time."""
    return str(random.random()).encode()


def say(content: bytes) -> bytes:
    log.log(log.Level.INFO, content.decode(), [("said", "by a guest")])
    return content


def read(content: bytes) -> bytes:
    with open(content.decode(), "rb") as file:
        return file.read()


ACTIONS = [explode, loop, hog, greed, recurse, reject, leave, keep, chance, baked, say, read]


class Handler(exports.Handler):
    """What the host calls."""

    def routes(self) -> list[Route]:
        return [Route(f"bad.{action.__name__}", RouteKind.COMMAND, "", None) for action in ACTIONS]

    def handle(self, request: Request) -> Payload:
        try:
            content = ACTIONS[request.route](request.message.payload.content)
        except Err:
            raise
        except Exception as error:
            log.log(log.Level.ERROR, f"{type(error).__name__}: {error}", [])
            for frame, line in list(traceback.walk_tb(error.__traceback__))[-5:]:
                log.log(log.Level.ERROR, f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}", [])
            raise
        return Payload(content, [], Status.SUCCESS)
