// Counts earthquakes by region and raises alerts: the plugin `quakes`, in TypeScript, on the raw bindings.
//
// What belongs to neither of its two handlers: routes, and how what is thrown becomes an outcome that the host understands.

import type { Failure, Handler, Route } from "sandbar:messaging/handler@0.1.0";
import { log } from "sandbar:messaging/log@0.1.0";
import type { PublishError } from "sandbar:messaging/publisher@0.1.0";
import type { StateError } from "sandbar:messaging/state@0.1.0";
import type { Payload } from "sandbar:messaging/types@0.1.0";

import { Rejected } from "./feature";
import { Misconfigured, record } from "./record";
import { stats } from "./stats";

interface Served extends Route {
  handle(content: Uint8Array): Payload | null;
}

const ROUTES: Served[] = [
  {
    topic: "quake.recorded",
    kind: "event",
    description: "Counts a quake, and raises an alert if it is a strong one.",
    contentSchema: null,
    handle: record,
  },
  {
    topic: "quake.stats",
    kind: "query",
    description: "Says how many quakes there were, where, and which was the strongest.",
    contentSchema: null,
    handle: stats,
  },
];

export const handler: Handler = {
  routes: () => ROUTES,

  handle(request) {
    try {
      return ROUTES[request.route]!.handle(request.message.payload.content);
    } catch (error) {
      throw failure(error);
    }
  },
};

/** The outcome of a handler that threw this. */
function failure(error: unknown): Failure {
  if (error instanceof Rejected) {
    return { tag: "rejected", val: error.message };
  }
  if (error instanceof Misconfigured) {
    return { tag: "failed", val: error.message };
  }
  if (error instanceof Error) {
    // A mistake of ours: said where, and left to crash.
    log("error", String(error), []);
    for (const line of (error.stack ?? "").trim().split("\n")) {
      log("error", line, []);
    }
    throw error;
  }
  return refusal(error as StateError | PublishError);
}

/** What the host refused. What may pass is tried again; the rest fails. */
function refusal(error: StateError | PublishError): Failure {
  switch (error.tag) {
    case "unavailable":
      return { tag: "retry", val: { reason: error.val, afterMs: null } };
    case "not-a-number":
      return { tag: "failed", val: "a stored value is not a number" };
    default:
      return { tag: "failed", val: error.val };
  }
}
