// JSON as bytes, and values that are kept as JSON. The host codes UTF-8: the interpreter has nothing for it.

import { get } from "sandbar:messaging/state@0.1.0";
import { decode, encode } from "sandbar:messaging/text@0.1.0";
import type { Payload } from "sandbar:messaging/types@0.1.0";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export function parse(bytes: Uint8Array): Json {
  return JSON.parse(decode(bytes));
}

export function bytes(value: Json): Uint8Array {
  return encode(JSON.stringify(value));
}

/** A value as content. */
export function payload(value: Json): Payload {
  return { content: bytes(value), headers: [["content-type", "application/json"]], status: "success" };
}

/** What is kept under a key; null if nothing is. */
export function stored(key: string): Json {
  const value = get(key);
  return value === null ? null : parse(value);
}
