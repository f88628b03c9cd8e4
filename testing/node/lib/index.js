// What a test gets: an account of its own, with phones and captured pushes and webhooks.
"use strict";

const { setTimeout: sleep } = require("node:timers/promises");
const { CountersignError, RequestError, Server } = require("./server.js");
const { accountsOf } = require("./accounts.js");

const WAIT_SECONDS = 5;
// The longest wait of one request.
const MAX_WAIT_SECONDS = 60;
// The shortest one. Without a wait, the server also returns webhooks whose first attempt still runs.
const MIN_WAIT_SECONDS = 0.001;
const POLL_MILLISECONDS = 20;
const SHOWN_CAPTURES = 5;

/**
 * Returns an account on the server of COUNTERSIGN_URL, which the global setup starts; with `ownServer` on a new server.
 *
 * A new server is stopped at the end of the test.
 */
async function countersign({ ownServer = false, friendlyName = "test" } = {}) {
  const url = process.env.COUNTERSIGN_URL;
  if (!ownServer && !url) {
    throw new CountersignError("there is no server; add @countersign/testing/global-setup to the runner's globalSetup");
  }
  const server = ownServer ? await Server.start() : new Server(url);
  try {
    // The name of a test can have characters that the server refuses in names.
    const name = [...friendlyName.replace(/\p{Cc}/gu, " ")].slice(0, 64).join("");
    const account = await server.request("POST", "/accounts", { friendly_name: name });
    const created = new Countersign(server, account);
    created.serviceSid = await created.createService();
    accountsOf(globalThis).push(created);
    return created;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** An account on a server in test mode. */
class Countersign {
  constructor(server, account) {
    this.server = server;
    this.url = server.url;
    this.accountSid = account.account_sid;
    this.authToken = account.auth_token;
    this.apiKeySid = account.api_key_sid;
    this.apiKeySecret = account.api_key_secret;
    this.devices = [];
    this.pushes = new Captures(this, "pushes");
    this.webhooks = new Captures(this, "webhooks");
  }

  /** Creates a further service and returns its SID. */
  async createService(friendlyName = "Test service") {
    return (await this.api("POST", "/v2/Services", { FriendlyName: friendlyName })).sid;
  }

  /**
   * Enrolls a phone for the user `identity`, in the account's service unless `serviceSid` names another one.
   *
   * `behaviour` is what it does with challenges: one word, or an object with default, script and rules. `approveAfter`
   * is short for a phone that approves after so many seconds. Further options are the members of the body of
   * `POST /devices` in camel case.
   */
  async device({ approveAfter, ...options }) {
    const behaviour =
      approveAfter === undefined ? "ignore" : { default: { do: "approve", after: approveAfter } };
    const body = { account_sid: this.accountSid, service_sid: this.serviceSid, behaviour };
    for (const [name, value] of Object.entries(options)) {
      body[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] = value;
    }
    const device = new Device(this.server, await this.server.request("POST", "/devices", body));
    this.devices.push(device);
    return device;
  }

  get clock() {
    return this.server.clock;
  }

  get chaos() {
    return this.server.chaos;
  }

  housekeeping() {
    return this.server.housekeeping();
  }

  /** Sends a request of the public API with the account's credentials and returns its JSON. */
  api(method, at, parameters) {
    return this.server.api(this.accountSid, this.authToken, method, at, parameters);
  }

  /** Returns a client of Twilio's library, which is the argument, with the address of this server. */
  twilio(library) {
    const client = library(this.accountSid, this.authToken);
    for (const domain of [client.verify, client.notify, client.monitor]) domain.baseUrl = this.url;
    return client;
  }

  /** Returns the logs of the account's phones and its last captures, for the output of a failed test. */
  async report() {
    const lines = [`${this.url}, account ${this.accountSid}`];
    for (const device of this.devices) {
      lines.push(`log of the phone of ${device.identity}, factor ${device.factorSid}`);
      lines.push(...(await shown(() => device.log(), step)));
    }
    lines.push("last pushes", ...(await shown(() => this.pushes.list({ limit: SHOWN_CAPTURES }), push)));
    lines.push("last webhooks", ...(await shown(() => this.webhooks.list({ limit: SHOWN_CAPTURES }), webhook)));
    return lines.join("\n");
  }
}

/** A phone of the server. */
class Device {
  constructor(server, values) {
    this.server = server;
    this.update(values);
  }

  update(values) {
    for (const [name, value] of Object.entries(values)) {
      this[name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())] = value;
    }
    return this;
  }

  /**
   * Approves a challenge and returns it as the phone shows it; without a SID, the newest pending one.
   *
   * Waits up to `wait` seconds for a pending challenge. Throws `RequestError` if the API refuses the answer.
   */
  approve(options) {
    return this.answer("approve", options);
  }

  /** Denies a challenge, otherwise like `approve`. */
  deny(options) {
    return this.answer("deny", options);
  }

  answer(answer, { challengeSid, wait = WAIT_SECONDS } = {}) {
    const body = { wait, ...(challengeSid && { challenge_sid: challengeSid }) };
    return this.server.request("POST", `/devices/${this.id}/${answer}`, body, wait);
  }

  /** Replaces the behaviour. */
  async behave(behaviour) {
    return this.update(await this.server.request("PATCH", `/devices/${this.id}`, { behaviour }));
  }

  /** Reads the device again, for example its `status` and its `pending` challenges. */
  async refresh() {
    return this.update(await this.server.request("GET", `/devices/${this.id}`));
  }

  /** Returns the steps of this phone, oldest first. */
  log() {
    return this.server.request("GET", `/devices/${this.id}/log`);
  }

  /** Deletes the factor and the phone, as an app does when its user signs out. */
  async delete() {
    await this.server.request("DELETE", `/devices/${this.id}`);
  }
}

/** Returns the value of a challenge's field with this label in any case, for example the number to be typed. */
function field(challenge, label) {
  const fields = challenge.details?.fields ?? [];
  const found = fields.find((field) => field.label.toLowerCase() === label.toLowerCase());
  if (found) return found.value;
  throw new CountersignError(`the challenge has no field ${label}: ${JSON.stringify(challenge.details)}`);
}

/** The captured pushes or webhooks of an account. Filters are `challengeSid`, `factorSid`, `type` and `since`. */
class Captures {
  constructor(owner, kind) {
    this.owner = owner;
    this.kind = kind;
  }

  path({ challengeSid, factorSid, ...more }) {
    const query = { account_sid: this.owner.accountSid, challenge_sid: challengeSid, factor_sid: factorSid, ...more };
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    return `/${this.kind}?${new URLSearchParams(given)}`;
  }

  /** Returns the captures that fit, oldest first. `limit` returns only the newest. */
  list(filters = {}) {
    return this.owner.server.request("GET", this.path(filters));
  }

  /**
   * Returns the newest capture that fits, after waiting for it up to `timeout` seconds.
   *
   * A webhook fits only after its first attempt, so the backend has handled it. `where` is a function that gets a
   * capture and returns whether it fits, in addition to the filters.
   */
  async wait({ timeout = WAIT_SECONDS, where, ...filters } = {}) {
    const end = performance.now() + timeout * 1000;
    for (;;) {
      const left = Math.max(0, (end - performance.now()) / 1000);
      const wait = Math.min(Math.max(left, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS);
      const path = this.path({ ...filters, wait });
      const found = await this.owner.server.request("GET", path, undefined, left);
      const fitting = where ? found.filter(where) : found;
      if (fitting.length) return fitting.at(-1);
      if (performance.now() >= end) {
        const wanted = JSON.stringify(filters);
        throw new Error(`none of the ${found.length} ${this.kind} fits after ${timeout} s (${wanted})`);
      }
      // The server does not know the function, so it returns at once what the filters select.
      await sleep(POLL_MILLISECONDS);
    }
  }

  clear(filters = {}) {
    return this.owner.server.request("DELETE", this.path(filters));
  }
}

async function shown(read, line) {
  try {
    const found = await read();
    return found.length ? found.map((item) => `  ${line(item)}`) : ["  none"];
  } catch (error) {
    return [`  not available: ${error.message}`];
  }
}

function words(item, ...names) {
  return names.map((name) => item[name]).filter((word) => word !== undefined && word !== null).join(" ");
}

function step(item) {
  return words(item, "at", "what", "challenge_sid", "do", "status", "code", "words");
}

function push(item) {
  return words(item, "at", "provider", "challenge_sid", "outcome");
}

function webhook(item) {
  const attempts = item.attempts.map((attempt) => words(attempt, "ending", "status", "words"));
  return `${item.at} ${item.body?.[0]?.type ?? item.parameters.type} to ${item.url}: ${attempts.join(", ") || "no attempt yet"}`;
}

module.exports = { countersign, field, Server, Countersign, Device, Captures, CountersignError, RequestError };
