// Does what a handler must not do, and some of what an interpreter does differently: throws, loops, eats memory, remembers.
// For tests only.

import type { Failure, Handler } from "sandbar:messaging/handler@0.1.0";
import { log } from "sandbar:messaging/log@0.1.0";
import { now, uuid } from "sandbar:messaging/system@0.1.0";
import { decode, encode } from "sandbar:messaging/text@0.1.0";

type Action = (content: Uint8Array) => Uint8Array;

/** What earlier messages left; empty where each message has an instance of its own. */
let kept = "";

/** Throws two calls deep, so that a stack has something to show. */
const explode: Action = (content) => divide(content.length);

function divide(number: number): Uint8Array {
  const nothing = undefined as unknown as { field: number };
  return encode(String(number / nothing.field));
}

const loop: Action = () => {
  for (;;) {}
};

const hog: Action = () => {
  const hoard: Uint8Array[] = [];
  for (;;) {
    hoard.push(new Uint8Array(1 << 20));
  }
};

/** Wants too much, and makes do with less. */
const greed: Action = () => {
  try {
    return encode(String(new Uint8Array(1 << 30).length));
  } catch {
    return encode("made do");
  }
};

const recurse: Action = (content) => recurse(content);

const reject: Action = (content) => {
  const failure: Failure = { tag: "rejected", val: decode(content) };
  throw failure;
};

const keep: Action = (content) => {
  const before = kept;
  kept += decode(content);
  return encode(before);
};

const chance: Action = () => encode(`${now()} ${uuid()}`);

const clock: Action = () => encode(String(Date.now()));

const say: Action = (content) => {
  log("info", decode(content), [["said", "by a guest"]]);
  return content;
};

const ACTIONS: Record<string, Action> = { explode, loop, hog, greed, recurse, reject, keep, chance, clock, say };
const NAMES = Object.keys(ACTIONS);

export const handler: Handler = {
  routes: () => NAMES.map((name) => ({ topic: `bad.${name}`, kind: "command", description: "", contentSchema: null })),

  handle(request) {
    try {
      const action = ACTIONS[NAMES[request.route]!]!;
      return { content: action(request.message.payload.content), headers: [], status: "success" };
    } catch (error) {
      if (error instanceof Error) {
        log("error", String(error), []);
        for (const line of (error.stack ?? "").trim().split("\n")) {
          log("error", line, []);
        }
      }
      throw error;
    }
  },
};
