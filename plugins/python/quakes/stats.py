"""The query `quake.stats`. It reads every region's counter, which is fine for a question asked now and then and would not
be for one asked with every quake.
"""

from typing import Iterator

from wit_world.imports import state
from wit_world.imports.types import Payload

from feature import Rejected, load
from record import ALERTS, REGION, STRONGEST, SUM, payload, stored


def stats(content: bytes) -> Payload:
    """Says how many quakes there were, where most of them, and which was the strongest."""
    top = question(content)
    regions = [{"region": key.removeprefix(REGION), "count": number(key)} for key in keys(REGION)]
    count = sum(region["count"] for region in regions)
    regions.sort(key=lambda region: (-region["count"], region["region"]))
    return payload(
        {
            "count": count,
            "regions": regions[:top],
            "strongest": stored(STRONGEST),
            "mean_magnitude": number(SUM) / 1000 / count if count else None,
            "alerts": number(ALERTS),
        }
    )


def question(content: bytes) -> int:
    """How many regions to name."""
    asked = load(content) if content else {}
    if not isinstance(asked, dict):
        raise Rejected("the question must be an object, such as {\"top\": 3}")
    top = asked.pop("top", 10)
    if asked:
        raise Rejected(f"{next(iter(asked))}: unknown field, expected `top`")
    if not isinstance(top, int) or isinstance(top, bool) or top < 0:
        raise Rejected("top: must be a whole number, not negative")
    return top


def keys(prefix: str) -> Iterator[str]:
    """All keys that begin with the prefix, page by page."""
    page = state.list_keys(prefix, None)
    yield from page.keys
    while page.cursor is not None:
        page = state.list_keys(prefix, page.cursor)
        yield from page.keys


def number(key: str) -> int:
    return stored(key) or 0
