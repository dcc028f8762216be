// The query `quake.stats`. It reads every region's counter, which is fine for a question asked now and then and would not
// be for one asked with every quake.

import { listKeys } from "sandbar:messaging/state@0.1.0";
import type { Payload } from "sandbar:messaging/types@0.1.0";

import { read, Rejected } from "./feature";
import { payload, stored } from "./json";
import { ALERTS, REGION, STRONGEST, SUM } from "./record";

/** Says how many quakes there were, where most of them, and which was the strongest. */
export function stats(content: Uint8Array): Payload {
  const top = question(content);
  const regions = keys(REGION).map((key) => ({ region: key.slice(REGION.length), count: number(key) }));
  const count = regions.reduce((sum, region) => sum + region.count, 0);
  regions.sort((a, b) => b.count - a.count || (a.region < b.region ? -1 : 1));
  return payload({
    count,
    regions: regions.slice(0, top),
    strongest: stored(STRONGEST),
    mean_magnitude: count > 0 ? number(SUM) / 1000 / count : null,
    alerts: number(ALERTS),
  });
}

/** How many regions to name. */
function question(content: Uint8Array): number {
  const asked = content.length > 0 ? read(content) : {};
  if (asked === null || typeof asked !== "object" || Array.isArray(asked)) {
    throw new Rejected('the question must be an object, such as {"top": 3}');
  }
  const unknown = Object.keys(asked).find((name) => name !== "top");
  if (unknown !== undefined) {
    throw new Rejected(`${unknown}: unknown field, expected \`top\``);
  }
  const top = asked.top ?? 10;
  if (typeof top !== "number" || !Number.isInteger(top) || top < 0) {
    throw new Rejected("top: must be a whole number, not negative");
  }
  return top;
}

/** All keys that begin with the prefix, page by page. */
function keys(prefix: string): string[] {
  const found: string[] = [];
  let cursor: string | null = null;
  do {
    const page = listKeys(prefix, cursor);
    found.push(...page.keys);
    cursor = page.cursor;
  } while (cursor !== null);
  return found;
}

function number(key: string): number {
  return (stored(key) as number | null) ?? 0;
}
