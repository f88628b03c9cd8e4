// A Countersign server in test mode: a process of this package, or a running container.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const os = require("node:os");
const path = require("node:path");

const READY = "countersign listening on ";
const START_SECONDS = 10;
const STOP_SECONDS = 10;
const REQUEST_SECONDS = 30;

// Ends the server when its own standard input closes, which also happens when the test process is killed.
const SUPERVISOR = `
trap '' INT HUP
exec 3<&0
"$@" </dev/null 3<&- &
exec >&-
cat <&3 >/dev/null
kill $!
wait $!
`;

/** The server could not be started, or the fixture was used in a way that cannot work. */
class CountersignError extends Error {
  constructor(message) {
    super(message);
    this.name = "CountersignError";
  }
}

/** The server refused a request. `status` is the HTTP status, `code` the error code of the API. */
class RequestError extends CountersignError {
  constructor(method, at, status, body) {
    super(`${method} ${at}: ${status}, code ${body?.code}: ${body?.message ?? body}`);
    this.name = "RequestError";
    this.status = status;
    this.code = body?.code;
    this.body = body;
  }
}

/** Returns the path of the binary: COUNTERSIGN_BINARY, else `countersign` on the PATH. */
function findBinary() {
  const given = process.env.COUNTERSIGN_BINARY;
  const candidates = given
    ? [path.resolve(given)]
    : (process.env.PATH ?? "").split(path.delimiter).map((folder) => path.resolve(folder, "countersign"));
  const found = candidates.find(isProgram);
  if (found) return found;
  const reason = given ? `COUNTERSIGN_BINARY is not a program: ${given}` : "no program countersign on the PATH";
  throw new CountersignError(`${reason}; install it, or name its path in COUNTERSIGN_BINARY`);
}

function isProgram(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** A server in test mode. `isShared` says whether other tests use it too. */
class Server {
  constructor(url, { isShared = true, child, folder, startSeconds = 0 } = {}) {
    this.url = url.replace(/\/$/, "");
    this.isShared = isShared;
    this.startSeconds = startSeconds;
    this.child = child;
    this.folder = folder;
  }

  /** Starts a server on a free port of 127.0.0.1 and waits until it is ready. */
  static async start({ isShared = false } = {}) {
    const binary = findBinary();
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "countersign-testing-"));
    const log = fs.openSync(path.join(folder, "server.log"), "w");
    // The server refuses test mode with settings of production, which a developer's shell may hold.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("COUNTERSIGN")));
    const command = [binary, "serve", "--test-mode", "local", "--listen", "127.0.0.1:0"];
    const began = performance.now();
    const child = spawn("sh", ["-c", SUPERVISOR, "countersign", ...command], {
      // A folder without `data`, because the default data folder is relative.
      cwd: folder,
      env,
      stdio: ["pipe", "pipe", log],
      detached: true,
    });
    fs.closeSync(log);
    const server = new Server("", { isShared, child, folder });
    try {
      server.url = await server.readUrl();
    } catch (error) {
      await server.stop();
      throw error;
    }
    server.startSeconds = (performance.now() - began) / 1000;
    // The process must not keep the test runner alive; it ends with it.
    for (const handle of [child, child.stdin, child.stdout]) handle.unref();
    return server;
  }

  /** Returns the running server at `url`, for example a container of the image `-test`. */
  static async attach(url) {
    const server = new Server(url);
    await server.request("GET", "/");
    return server;
  }

  readUrl() {
    return new Promise((resolve, reject) => {
      const fail = (reason) => {
        clearTimeout(timer);
        reject(new CountersignError(`the server ${reason}:\n${this.log()}`));
      };
      const timer = setTimeout(fail, START_SECONDS * 1000, `was not ready after ${START_SECONDS} s`);
      let output = "";
      this.child.on("error", (error) => fail(`could not be started: ${error.message}`));
      this.child.stdout.on("data", (data) => {
        if (output === null) return;
        output += data;
        const line = output.split("\n").slice(0, -1).find((line) => line.startsWith(READY));
        if (!line) return;
        output = null;
        clearTimeout(timer);
        resolve(line.slice(READY.length).trim());
      });
      this.child.stdout.on("end", () => fail("ended before it was ready"));
    });
  }

  /** Returns the end of the server's log, or an empty text if the server is not a process of this package. */
  log() {
    try {
      return fs.readFileSync(path.join(this.folder, "server.log"), "utf8").split("\n").slice(-40).join("\n");
    } catch {
      return "";
    }
  }

  /** Sends SIGTERM and waits for the end of the process. Does nothing for a server that was not started here. */
  async stop() {
    const child = this.child;
    if (!child) return;
    this.child = undefined;
    const isRunning = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    let isLate = false;
    if (isRunning()) {
      child.ref();
      const timer = setTimeout(() => {
        isLate = true;
        process.kill(-child.pid, "SIGKILL");
      }, STOP_SECONDS * 1000);
      child.stdin.destroy();
      await ended;
      clearTimeout(timer);
    }
    const log = this.log();
    fs.rmSync(this.folder, { recursive: true, force: true });
    if (isLate) throw new CountersignError(`the server did not stop within ${STOP_SECONDS} s:\n${log}`);
  }

  /** Sends a request to `/_countersign/v1` and returns the JSON of the response, or `undefined` without a body. */
  request(method, at, body, waitSeconds = 0) {
    const data = body === undefined ? undefined : JSON.stringify(body);
    const headers = method === "GET" ? {} : { "Content-Type": "application/json" };
    return this.send(method, `/_countersign/v1${at}`, data, headers, waitSeconds);
  }

  /** Sends a request of the public API and returns its JSON. Tests normally use Twilio's library instead. */
  api(accountSid, authToken, method, at, parameters = {}) {
    const headers = { Authorization: `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString("base64")}` };
    if (method !== "POST") return this.send(method, at, undefined, headers);
    headers["Content-Type"] = "application/x-www-form-urlencoded";
    return this.send(method, at, new URLSearchParams(parameters).toString(), headers);
  }

  // Not `fetch`, because test environments may replace or lack it.
  send(method, at, data, headers, waitSeconds = 0) {
    const { request } = this.url.startsWith("https:") ? https : http;
    const timeout = (waitSeconds + REQUEST_SECONDS) * 1000;
    return new Promise((resolve, reject) => {
      const sent = request(this.url + at, { method, headers, timeout, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part) => (text += part));
        response.on("error", reject);
        response.on("end", () => {
          const body = parse(text);
          if (response.statusCode < 300) resolve(body);
          else reject(new RequestError(method, at, response.statusCode, body));
        });
      });
      sent.on("timeout", () => sent.destroy(new CountersignError(`${method} ${at}: no response in ${timeout} ms`)));
      sent.on("error", reject);
      sent.end(data);
    });
  }

  /** Runs one round of housekeeping now, and returns the number of removed objects by kind. */
  housekeeping() {
    return this.request("POST", "/housekeeping", {});
  }

  /** Removes all devices and captures of all accounts, and sets the clock back to the real time. */
  async reset() {
    this.requireOwn("reset");
    await this.request("POST", "/reset", {});
  }

  get clock() {
    this.requireOwn("the clock");
    return new Clock(this);
  }

  get chaos() {
    this.requireOwn("chaos");
    return new Chaos(this);
  }

  requireOwn(what) {
    if (!this.isShared) return;
    throw new CountersignError(
      `${what} affects every test on this server; give the test a server of its own: countersign({ ownServer: true })`,
    );
  }
}

function parse(text) {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The server's clock. It moves forward only. Each method returns the new time. */
class Clock {
  constructor(server) {
    this.server = server;
  }

  async now() {
    return toDate((await this.server.request("GET", "/clock")).now);
  }

  /** Moves the clock forward, for example by `{ minutes: 5 }`. */
  advance({ days = 0, hours = 0, minutes = 0, seconds = 0 }) {
    return this.set({ advance: ((days * 24 + hours) * 60 + minutes) * 60 + seconds });
  }

  /** Moves the clock forward to a date. */
  travelTo(date) {
    return this.set({ to: date.toISOString() });
  }

  freeze() {
    return this.set({ freeze: true });
  }

  resume() {
    return this.set({ resume: true });
  }

  async set(body) {
    return toDate((await this.server.request("POST", "/clock", body)).now);
  }
}

// Rounded up to a millisecond, because a date before the server's time could not be given to `travelTo`.
function toDate(text) {
  const [, microseconds = "000"] = /\.\d{3}(\d{3})/.exec(text) ?? [];
  return new Date(Date.parse(text) + (microseconds === "000" ? 0 : 1));
}

/** Failures that the server makes on purpose. */
class Chaos {
  constructor(server) {
    this.server = server;
  }

  /** Replaces the failures. The argument is the body of `PUT /chaos`. */
  set(failures) {
    return this.server.request("PUT", "/chaos", failures);
  }

  clear() {
    return this.server.request("DELETE", "/chaos");
  }
}

module.exports = { Server, CountersignError, RequestError };
