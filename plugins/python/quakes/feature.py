"""One earthquake as the USGS publishes it (a GeoJSON feature), and what has to be true of it. Fields that nobody here
needs are not read.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Optional

# The region of a quake without a place.
UNKNOWN = "unknown"


class Rejected(Exception):
    """The message is wrong; the text has the path of the field."""


@dataclass
class Quake:
    """A feature that was checked."""

    id: str
    # Moment magnitude or one of its older relatives.
    magnitude: float
    # As in `4km W of Castaic, CA`; empty if it isn't known.
    place: str
    # Milliseconds since 1970-01-01 UTC.
    time: int

    @property
    def region(self) -> str:
        """What follows the last comma of the place, or all of it."""
        return self.place.rsplit(",", 1)[-1].strip() or UNKNOWN

    @property
    def thousandths(self) -> int:
        """The magnitude in thousandths, so that sums are exact. Halves go away from zero."""
        scaled = self.magnitude * 1000
        return int(math.copysign(math.floor(abs(scaled) + 0.5), scaled))


def parse(content: bytes) -> Quake:
    """Reads and checks a feature, or raises `Rejected`."""
    feature = load(content)
    properties = field(feature, "properties", dict)
    geometry = field(feature, "geometry", dict)
    magnitude = field(properties, "properties.mag", float)
    time = field(properties, "properties.time", int)
    place: Optional[str] = None
    if properties.get("place") is not None:
        place = field(properties, "properties.place", str)
    coordinates = field(geometry, "geometry.coordinates", list)
    if len(coordinates) != 3:
        raise Rejected(f"geometry.coordinates: invalid length {len(coordinates)}, expected an array of length 3")
    quake = Quake(field(feature, "id", str), magnitude, place or "", time)
    within("properties.mag", magnitude, -2, 10)
    # Longitude, latitude and depth. Above sea level is negative; the deepest quakes are at 700 km.
    for index, (start, end) in enumerate([(-180, 180), (-90, 90), (-10, 1000)]):
        path = f"geometry.coordinates[{index}]"
        within(path, check(path, coordinates[index], float), start, end)
    length("id", quake.id, 1, 64)
    length("properties.place", quake.place, 0, 200)
    return quake


def load(content: bytes) -> Any:
    """Any JSON value."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise Rejected(f"the content is not JSON: {error}") from error


def field(parent: Any, path: str, kind: type) -> Any:
    """The last field of the path, which must be of that type."""
    name = path.rsplit(".", 1)[-1]
    if not isinstance(parent, dict) or name not in parent:
        raise Rejected(f"{path}: missing field `{name}`")
    return check(path, parent[name], kind)



def check(path: str, value: Any, kind: type) -> Any:
    """The value, if it is of that type. A whole number will do where any number does, and truth is no number."""
    fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if not fits:
        raise Rejected(f"{path}: invalid type: {name_of(value)}")
    return float(value) if kind is float else value


def name_of(value: Any) -> str:
    """What JSON calls it."""
    names = {type(None): "null", bool: "boolean", int: "integer", float: "floating point", str: "string", list: "sequence"}
    return names.get(type(value), "map")


def within(path: str, value: float, start: int, end: int) -> None:
    if not start <= value <= end:
        raise Rejected(f"{path}: {value:g} is not between {start} and {end}")


def length(path: str, text: str, start: int, end: int) -> None:
    size = len(text.encode())
    if not start <= size <= end:
        raise Rejected(f"{path}: {size} bytes; must be {start} to {end}")
