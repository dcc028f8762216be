// One earthquake as the USGS publishes it (a GeoJSON feature), and what has to be true of it. Fields that nobody here
// needs are not read.

import { encode } from "sandbar:messaging/text@0.1.0";

import { type Json, parse } from "./json";

/** The region of a quake without a place. */
const UNKNOWN = "unknown";

/** The message is wrong; the text has the path of the field. */
export class Rejected extends Error {}

/** A feature that was checked. */
export interface Quake {
  id: string;
  /** Moment magnitude or one of its older relatives. */
  magnitude: number;
  /** As in `4km W of Castaic, CA`; empty if it isn't known. */
  place: string;
  /** Milliseconds since 1970-01-01 UTC. */
  time: number;
}

/** Reads and checks a feature, or throws `Rejected`. */
export function quake(content: Uint8Array): Quake {
  const feature = read(content);
  const properties = field(feature, "properties", "map");
  const geometry = field(feature, "geometry", "map");
  const magnitude = field(properties, "properties.mag", "number") as number;
  const time = field(properties, "properties.time", "number") as number;
  if (!Number.isSafeInteger(time)) {
    throw new Rejected(`properties.time: invalid type: floating point`);
  }
  const known = ((properties as { place?: Json }).place ?? null) !== null;
  const place = known ? (field(properties, "properties.place", "string") as string) : "";
  const coordinates = field(geometry, "geometry.coordinates", "sequence") as Json[];
  if (coordinates.length !== 3) {
    throw new Rejected(`geometry.coordinates: invalid length ${coordinates.length}, expected an array of length 3`);
  }
  const id = field(feature, "id", "string") as string;
  within("properties.mag", magnitude, -2, 10);
  // Longitude, latitude and depth. Above sea level is negative; the deepest quakes are at 700 km.
  const ranges: [number, number][] = [[-180, 180], [-90, 90], [-10, 1000]];
  ranges.forEach(([start, end], index) => {
    const path = `geometry.coordinates[${index}]`;
    within(path, check(path, coordinates[index]!, "number") as number, start, end);
  });
  length("id", id, 1, 64);
  length("properties.place", place, 0, 200);
  return { id, magnitude, place, time };
}

/** What follows the last comma of the place, or all of it. */
export function region({ place }: Quake): string {
  return place.slice(place.lastIndexOf(",") + 1).trim() || UNKNOWN;
}

/** The magnitude in thousandths, so that sums are exact. Halves go away from zero. */
export function thousandths({ magnitude }: Quake): number {
  return Math.sign(magnitude) * Math.round(Math.abs(magnitude) * 1000);
}

/** Any JSON value. */
export function read(content: Uint8Array): Json {
  try {
    return parse(content);
  } catch (error) {
    throw new Rejected(`the content is not JSON: ${error instanceof Error ? error.message : `byte ${error}`}`);
  }
}

/** The last field of the path, which must be of that type. */
function field(parent: Json, path: string, kind: string): Json {
  const name = path.slice(path.lastIndexOf(".") + 1);
  const value = kindOf(parent) === "map" ? (parent as { [name: string]: Json })[name] : undefined;
  if (value === undefined) {
    throw new Rejected(`${path}: missing field \`${name}\``);
  }
  return check(path, value, kind);
}

/** The value, if it is of that type. */
function check(path: string, value: Json, kind: string): Json {
  if (kindOf(value) !== kind) {
    throw new Rejected(`${path}: invalid type: ${kindOf(value)}`);
  }
  return value;
}

function kindOf(value: Json): string {
  if (value === null) {
    return "null";
  }
  if (Array.isArray(value)) {
    return "sequence";
  }
  return typeof value === "object" ? "map" : typeof value;
}

function within(path: string, value: number, start: number, end: number): void {
  if (!(start <= value && value <= end)) {
    throw new Rejected(`${path}: ${value} is not between ${start} and ${end}`);
  }
}

function length(path: string, text: string, start: number, end: number): void {
  // UTF-8, as the host counts.
  const size = encode(text).length;
  if (!(start <= size && size <= end)) {
    throw new Rejected(`${path}: ${size} bytes; must be ${start} to ${end}`);
  }
}
