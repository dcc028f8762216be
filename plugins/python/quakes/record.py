"""The event `quake.recorded`: totals and alerts. What every message writes is an increment, which the host can add up when
messages run side by side.
"""

import json
from typing import Any

from wit_world.imports import config, publisher, state
from wit_world.imports.types import Payload, Status, Strategy

from feature import Quake, parse

# Keys of the counters by region begin with this.
REGION = "region/"
# The sum of all magnitudes, in thousandths.
SUM = "total/magnitude"
# How many alerts there were.
ALERTS = "total/alerts"
# The strongest quake so far; of equals, the earliest.
STRONGEST = "total/strongest"

ALERT_TOPIC = "quake.alert"
DEFAULT_ALERT_MAGNITUDE = 4.5

# The classes that seismologists give to magnitudes, from these on.
LEVELS = [(8, "great"), (7, "major"), (6, "strong"), (5, "moderate"), (4, "light")]


class Misconfigured(Exception):
    """The operator has to change something."""


def record(content: bytes) -> None:
    """Counts a quake, and raises an alert if it is a strong one."""
    quake = parse(content)
    state.increment(REGION + quake.region, 1)
    state.increment(SUM, quake.thousandths)
    keep_strongest(quake)
    if quake.magnitude >= alert_magnitude():
        state.increment(ALERTS, 1)
        alert(quake)


def keep_strongest(quake: Quake) -> None:
    held = stored(STRONGEST)
    # Stronger first, then earlier.
    if held is None or (quake.magnitude, -quake.time) > (held["magnitude"], -held["time"]):
        strongest = {"magnitude": quake.magnitude, "place": quake.place, "time": quake.time}
        state.set(STRONGEST, dump(strongest))


def alert_magnitude() -> float:
    text = config.get("alert_magnitude")
    if text is None:
        return DEFAULT_ALERT_MAGNITUDE
    try:
        return float(text)
    except ValueError as error:
        raise Misconfigured(f"configuration `alert_magnitude` is not a number: {json.dumps(text)}") from error


def alert(quake: Quake) -> None:
    content = {
        "id": quake.id,
        "magnitude": quake.magnitude,
        "place": quake.place,
        "time": quake.time,
        "level": next((name for start, name in LEVELS if quake.magnitude >= start), "minor"),
    }
    # Everybody who listens gets a copy.
    options = publisher.Options(Strategy.MULTICAST, None, None, None, None)
    publisher.publish(ALERT_TOPIC, payload(content), options)


def payload(value: Any) -> Payload:
    """A value as JSON."""
    return Payload(dump(value), [("content-type", "application/json")], Status.SUCCESS)


def stored(key: str) -> Any:
    """What is kept under a key, as JSON; `None` if nothing is."""
    value = state.get(key)
    return None if value is None else json.loads(value)


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
