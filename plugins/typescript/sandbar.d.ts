// The contract of `wit/v0.1` as TypeScript sees it: what it says of each function holds here.
//
// Written by hand after the rules of componentize-qjs: a result is returned or thrown, an option may be null, a variant is
// an object with `tag` and `val`, an enum is a text. Numbers of 64 bits are exact up to 2^53.

declare module "sandbar:messaging/types@0.1.0" {
  export type Headers = [name: string, value: string][];
  export type Strategy = "unicast" | "multicast";
  export type Status = "success" | "error" | "system-error" | "unknown";

  export interface Payload {
    content: Uint8Array;
    headers: Headers;
    status: Status;
  }

  export interface Message {
    id: string;
    topic: string;
    replyTopic: string | null;
    strategy: Strategy;
    payload: Payload;
  }
}

declare module "sandbar:messaging/handler@0.1.0" {
  import type { Message, Payload } from "sandbar:messaging/types@0.1.0";

  export interface Route {
    topic: string;
    kind: "command" | "query" | "event" | "periodic";
    description: string;
    contentSchema: string | null;
  }

  export interface Request {
    message: Message;
    attempt: number;
    budgetMs: number;
    route: number;
  }

  /** What `handle` throws; anything else that it throws is a crash. */
  export type Failure =
    | { tag: "rejected"; val: string }
    | { tag: "failed"; val: string }
    | { tag: "retry"; val: { reason: string; afterMs: number | null } };

  /** What a plugin exports under the name `handler`. */
  export interface Handler {
    routes(): Route[];
    handle(request: Request): Payload | null;
  }
}

declare module "sandbar:messaging/publisher@0.1.0" {
  import type { Payload, Strategy } from "sandbar:messaging/types@0.1.0";

  export interface Options {
    strategy: Strategy;
    key: string | null;
    delayMs: number | null;
    id: string | null;
    replyTopic: string | null;
  }

  export type PublishError = { tag: "forbidden" | "invalid" | "limit"; val: string };

  /** Throws a `PublishError`. */
  export function publish(topic: string, payload: Payload, options: Options | null): void;
}

declare module "sandbar:messaging/client@0.1.0" {
  import type { Message, Payload } from "sandbar:messaging/types@0.1.0";

  export type RequestError =
    | { tag: "forbidden" | "invalid" | "limit" | "unavailable"; val: string }
    | { tag: "timeout" };

  /** Throws a `RequestError`. */
  export function request(topic: string, payload: Payload, timeoutMs: number): Message;
}

declare module "sandbar:messaging/state@0.1.0" {
  export type StateError =
    | { tag: "forbidden" | "limit" | "unavailable"; val: string }
    | { tag: "not-a-number" };

  export interface KeyPage {
    keys: string[];
    cursor: string | null;
  }

  // Each throws a `StateError`.
  export function get(key: string): Uint8Array | null;
  export function set(key: string, value: Uint8Array): void;
  function remove(key: string): void;
  export { remove as delete };
  export function increment(key: string, delta: number): number;
  export function listKeys(prefix: string, cursor: string | null): KeyPage;
}

declare module "sandbar:messaging/config@0.1.0" {
  export function get(name: string): string | null;
  export function all(): [name: string, value: string][];
}

declare module "sandbar:messaging/system@0.1.0" {
  export function now(): number;
  export function random(len: number): Uint8Array;
  export function uuid(): string;
}

declare module "sandbar:messaging/text@0.1.0" {
  /** Throws the position of the first byte that isn't UTF-8. */
  export function decode(bytes: Uint8Array): string;
  export function encode(text: string): Uint8Array;
}

declare module "sandbar:messaging/log@0.1.0" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error";
  export function log(level: Level, message: string, fields: [name: string, value: string][]): void;
}
