// The event `quake.recorded`: totals and alerts. What every message writes is an increment, which the host can add up when
// messages run side by side.

import * as config from "sandbar:messaging/config@0.1.0";
import { publish } from "sandbar:messaging/publisher@0.1.0";
import { increment, set } from "sandbar:messaging/state@0.1.0";

import { type Quake, quake, region, thousandths } from "./feature";
import { bytes, type Json, payload, stored } from "./json";

/** Keys of the counters by region begin with this. */
export const REGION = "region/";
/** The sum of all magnitudes, in thousandths. */
export const SUM = "total/magnitude";
/** How many alerts there were. */
export const ALERTS = "total/alerts";
/** The strongest quake so far; of equals, the earliest. */
export const STRONGEST = "total/strongest";

const ALERT_TOPIC = "quake.alert";
const DEFAULT_ALERT_MAGNITUDE = 4.5;

/** The classes that seismologists give to magnitudes, from these on. */
const LEVELS: [number, string][] = [[8, "great"], [7, "major"], [6, "strong"], [5, "moderate"], [4, "light"]];

/** The operator has to change something. */
export class Misconfigured extends Error {}

/** Counts a quake, and raises an alert if it is a strong one. */
export function record(content: Uint8Array): null {
  const recorded = quake(content);
  increment(REGION + region(recorded), 1);
  increment(SUM, thousandths(recorded));
  keepStrongest(recorded);
  if (recorded.magnitude >= alertMagnitude()) {
    increment(ALERTS, 1);
    alert(recorded);
  }
  return null;
}

function keepStrongest({ magnitude, place, time }: Quake): void {
  const held = stored(STRONGEST) as { magnitude: number; time: number } | null;
  const stronger =
    held === null || magnitude > held.magnitude || (magnitude === held.magnitude && time < held.time);
  if (stronger) {
    set(STRONGEST, bytes({ magnitude, place, time }));
  }
}

function alertMagnitude(): number {
  const text = config.get("alert_magnitude");
  if (text === null) {
    return DEFAULT_ALERT_MAGNITUDE;
  }
  const number = Number(text);
  if (text.trim() === "" || Number.isNaN(number)) {
    throw new Misconfigured(`configuration \`alert_magnitude\` is not a number: ${JSON.stringify(text)}`);
  }
  return number;
}

function alert({ id, magnitude, place, time }: Quake): void {
  const level = LEVELS.find(([start]) => magnitude >= start)?.[1] ?? "minor";
  const content: Json = { id, magnitude, place, time, level };
  // Everybody who listens gets a copy.
  publish(ALERT_TOPIC, payload(content), {
    strategy: "multicast",
    key: null,
    delayMs: null,
    id: null,
    replyTopic: null,
  });
}
