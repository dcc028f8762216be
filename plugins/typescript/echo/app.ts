// Replies with what it got. The smallest plugin there is, not a template for larger ones.

import type { Handler } from "sandbar:messaging/handler@0.1.0";

export const handler: Handler = {
  routes: () => [{ topic: "echo", kind: "command", description: "Replies with the content it got", contentSchema: null }],

  // Headers of a reply are changes on top of the request's, so the content type stays.
  handle: (request) => ({ content: request.message.payload.content, headers: [], status: "success" }),
};
