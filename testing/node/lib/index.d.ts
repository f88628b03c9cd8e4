/** One word, or what a device does with the challenges it gets. */
export type Do =
  | "approve" | "deny" | "ignore" | "late" | "twice" | "wrong_signature" | "tampered" | "stale_token" | "wrong_clock"
  | "lost_answer" | "uninstall" | "offline";
/** Seconds, or an ISO 8601 duration such as `PT5M`. */
export type Duration = number | string;
export interface Act { do: Do; after?: Duration }
export interface Rule extends Act {
  when: { message?: string; field?: Record<string, string>; hidden?: Record<string, string> };
}
export type Behaviour = Do | { default?: Act; script?: Act[]; rules?: Rule[] };

export interface DeviceOptions {
  identity: string;
  behaviour?: Behaviour;
  /** Short for a phone that approves after so many seconds. */
  approveAfter?: Duration;
  serviceSid?: string;
  accessToken?: string;
  friendlyName?: string;
  style?: "android" | "ios" | "web";
  push?: "fcm" | "apn" | "none";
  metadata?: Record<string, string>;
}

export interface Challenge {
  sid: string;
  status: string;
  details: { message: string; fields?: { label: string; value: string }[] };
  [name: string]: unknown;
}

export interface Step {
  at: string;
  what: string;
  challenge_sid?: string;
  do?: Do;
  status?: number;
  code?: number;
  words?: string;
}

export interface Push {
  id: string;
  at: string;
  provider: "fcm" | "apn";
  account_sid: string;
  service_sid: string;
  factor_sid: string;
  challenge_sid: string;
  notification_sid?: string | null;
  token: string;
  headers?: Record<string, string>;
  body: Record<string, unknown>;
  outcome: "delivered" | "unavailable" | "gone" | "refused";
  would_fail?: number | null;
}

export interface Attempt { at: string; ending: string; status?: number | null; milliseconds?: number; words?: string | null }

export interface Webhook {
  id: string;
  at: string;
  account_sid: string;
  /** `null` for a debugger webhook. */
  service_sid: string | null;
  /** `null` for debugger webhooks and verification events, whose URLs belong to the account. */
  webhook_sid: string | null;
  url: string;
  parameters: Record<string, string>;
  /** The JSON body of a verification event; `null` for other webhooks. */
  body: { type: string; data: Record<string, unknown>; [member: string]: unknown }[] | null;
  headers: Record<string, string>;
  attempts: Attempt[];
}

export interface Filters { challengeSid?: string; factorSid?: string; type?: string; since?: string; limit?: number }

export class CountersignError extends Error {}

export class RequestError extends CountersignError {
  readonly status: number;
  readonly code?: number;
  readonly body: unknown;
}

export class Clock {
  now(): Promise<Date>;
  advance(duration: { days?: number; hours?: number; minutes?: number; seconds?: number }): Promise<Date>;
  travelTo(date: Date): Promise<Date>;
  freeze(): Promise<Date>;
  resume(): Promise<Date>;
}

export class Chaos {
  set(failures: { push?: object; webhook?: object; webhooks?: "send" | "capture-only"; api?: object }): Promise<unknown>;
  clear(): Promise<void>;
}

export class Server {
  static start(options?: { isShared?: boolean }): Promise<Server>;
  static attach(url: string): Promise<Server>;
  readonly url: string;
  readonly isShared: boolean;
  readonly startSeconds: number;
  readonly clock: Clock;
  readonly chaos: Chaos;
  request(method: string, path: string, body?: unknown, waitSeconds?: number): Promise<any>;
  housekeeping(): Promise<Record<string, number>>;
  reset(): Promise<void>;
  log(): string;
  stop(): Promise<void>;
}

export class Device {
  readonly id: string;
  readonly accountSid: string;
  readonly serviceSid: string;
  readonly identity: string;
  readonly factorSid: string;
  readonly credentialSid: string;
  readonly status: "verified" | "unverified" | "removed";
  readonly publicKey: string;
  readonly key: { kty: string; crv: string; x: string; y: string; d: string };
  readonly behaviour: Behaviour;
  readonly pending: string[];
  approve(options?: { challengeSid?: string; wait?: number }): Promise<Challenge>;
  deny(options?: { challengeSid?: string; wait?: number }): Promise<Challenge>;
  behave(behaviour: Behaviour): Promise<this>;
  refresh(): Promise<this>;
  log(): Promise<Step[]>;
  delete(): Promise<void>;
}

export class Captures<Item> {
  list(filters?: Filters): Promise<Item[]>;
  wait(options?: Filters & { timeout?: number; where?: (item: Item) => boolean }): Promise<Item>;
  clear(filters?: Filters): Promise<void>;
}

export class Countersign {
  readonly server: Server;
  readonly url: string;
  readonly accountSid: string;
  readonly authToken: string;
  readonly apiKeySid: string;
  readonly apiKeySecret: string;
  readonly serviceSid: string;
  readonly devices: Device[];
  readonly pushes: Captures<Push>;
  readonly webhooks: Captures<Webhook>;
  readonly clock: Clock;
  readonly chaos: Chaos;
  createService(friendlyName?: string): Promise<string>;
  device(options: DeviceOptions): Promise<Device>;
  housekeeping(): Promise<Record<string, number>>;
  api(method: string, path: string, parameters?: Record<string, string>): Promise<any>;
  /** The argument is `require("twilio")`. */
  twilio<Client>(library: (accountSid: string, authToken: string) => Client): Client;
  report(): Promise<string>;
}

export function countersign(options?: { ownServer?: boolean; friendlyName?: string }): Promise<Countersign>;
export function field(challenge: Challenge, label: string): string;
