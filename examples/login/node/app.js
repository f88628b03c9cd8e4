// A login page that asks the user's phone. ../README.md describes it.

import crypto from "node:crypto";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import express from "express";
import twilio from "twilio";

const {
  COUNTERSIGN_URL: server,
  TWILIO_ACCOUNT_SID: accountSid,
  TWILIO_AUTH_TOKEN: authToken,
  VERIFY_SERVICE_SID: serviceSid,
  PORT: port = "5000",
} = process.env;
if (!server || !accountSid || !authToken || !serviceSid) {
  throw new Error("set COUNTERSIGN_URL, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and VERIFY_SERVICE_SID");
}

const PAGE = fileURLToPath(new URL("../page", import.meta.url));
const STATES = { pending: "waiting", approved: "approved", denied: "denied", expired: "expired" };
// A sign-in ends with its challenge, after five minutes. The rest is time for the number.
const LOGIN_MS = 600_000;
const SESSION_MS = 8 * 3_600_000;
// After a denial or a wrong number, the user's phone is not asked again for this time. Otherwise an attacker could ask
// until the user approves by mistake, and guess one number of a hundred each time.
const PAUSE_MS = 60_000;
const POLL_MS = 2_000;
const KEEP_ALIVE_MS = 15_000;

const client = twilio(accountSid, authToken);
client.verify.baseUrl = server.replace(/\/$/, "");
const service = client.verify.v2.services(serviceSid);

// What the cookies `login` and `session` are the keys of. An application with several processes keeps these in its
// session store.
const logins = new Map();
const sessions = new Map();
// When the phone of a user may be asked again.
const pauses = new Map();

/** A sign-in that is not complete. */
class Login {
  isNumberWrong = false;
  // Whether the pause of its user has begun.
  isNoted = false;
  endsAt = Date.now() + LOGIN_MS;

  constructor(identity, challengeSid, number) {
    this.identity = identity;
    this.challengeSid = challengeSid;
    // The number that the phone shows. The page never receives it.
    this.number = number;
  }

  get challenge() {
    return service.entities(this.identity).challenges(this.challengeSid);
  }

  async state() {
    return this.isNumberWrong ? "wrong_number" : STATES[(await this.challenge.fetch()).status];
  }

  view(state) {
    return { state, identity: this.identity };
  }
}

const app = express();
app.disable("x-powered-by");
app.use((request, response, next) => {
  response.set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'");
  response.set("Cache-Control", "no-store");
  next();
});
app.use(express.json({ limit: "1kb" }));

/** What only a user who is signed in may see. */
app.get("/account", (request, response) => {
  response.json({ identity: requireSignedIn(request).identity });
});

/** Asks the user's phone. An application verifies the password before it does this. */
app.post("/login", async (request, response) => {
  const identity = String(request.body?.identity ?? "");
  if (pauses.get(identity) > Date.now()) {
    return response.status(429).json({ error: "Too many attempts. Wait a minute and try again." });
  }
  const factorSid = await newestPhone(identity);
  if (!factorSid) return response.status(400).json({ error: "There is no phone for this user name." });
  const number = String(crypto.randomInt(100)).padStart(2, "0");
  const challenge = await service.entities(identity).challenges.create({
    factorSid,
    "details.message": "Sign in to Example Bank?",
    "details.fields": [
      { label: "Code", value: number },
      { label: "From", value: request.ip },
    ],
  });
  const login = new Login(identity, challenge.sid, number);
  remember(request, response, "login", logins, login, login.view("waiting"));
});

app.get("/login", async (request, response) => {
  const session = live(request, "session", sessions);
  if (session) return response.json({ state: "signed_in", identity: session.identity });
  const login = currentLogin(request);
  response.json(login.view(noted(login, await login.state())));
});

/** Sends the state of the sign-in when it changes, as Server-Sent Events. */
app.get("/login/events", async (request, response) => {
  const login = currentLogin(request);
  const closed = new AbortController();
  response.on("close", () => closed.abort());
  response.set({ "Content-Type": "text/event-stream", "X-Accel-Buffering": "no" });
  response.flushHeaders();
  const keepAlive = setInterval(() => response.write(": still waiting\n\n"), KEEP_ALIVE_MS);
  try {
    const status = await answer(login, closed.signal);
    const state = login.isNumberWrong ? "wrong_number" : noted(login, STATES[status]);
    response.write(`data: ${JSON.stringify(login.view(state))}\n\n`);
  } catch (error) {
    // The page asks again when its stream ends.
    if (!closed.signal.aborted) console.error("Verify cannot be reached:", error.message);
  } finally {
    clearInterval(keepAlive);
    response.end();
  }
});

/**
 * Returns the final status of the challenge.
 *
 * It waits on Countersign's stream, and asks every two seconds while there is none, as with Twilio's own service.
 */
async function answer(login, signal) {
  for (;;) {
    const status = (await streamedAnswer(login, signal)) ?? (await login.challenge.fetch()).status;
    if (status !== "pending") return status;
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** Returns the final status from the stream of the challenge, or undefined if the stream fails or ends before. */
async function streamedAnswer({ identity, challengeSid }, signal) {
  const path = `Services/${serviceSid}/Entities/${encodeURIComponent(identity)}/Challenges/${challengeSid}/Events`;
  const headers = { Authorization: "Basic " + Buffer.from(`${accountSid}:${authToken}`).toString("base64") };
  try {
    const response = await fetch(`${client.verify.baseUrl}/countersign/v1/${path}`, { headers, signal });
    if (!response.ok) return undefined;
    let text = "";
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const event = text.match(/^event: challenge\.(approved|denied|expired)$/m);
      if (event) return event[1];
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  return undefined;
}

/** Sends the push again, for a phone that was out of reach. */
app.post("/login/resend", async (request, response) => {
  await currentLogin(request).challenge.notifications.create();
  response.status(204).end();
});

/** Signs the user in if the number is the one that the phone showed when the user approved. */
app.post("/login/number", async (request, response) => {
  const login = currentLogin(request);
  const state = noted(login, await login.state());
  if (state !== "approved" || login.isNumberWrong || logins.get(cookie(request, "login")) !== login) {
    return response.status(409).json(login.view(state));
  }
  // There is only one attempt: an attacker who makes the user approve must not be able to try all the numbers.
  if (!isSameText(String(request.body?.number ?? "").trim(), login.number)) {
    login.isNumberWrong = true;
    return response.json(login.view(noted(login, "wrong_number")));
  }
  const session = { identity: login.identity, endsAt: Date.now() + SESSION_MS };
  remember(request, response, "session", sessions, session, login.view("signed_in"));
});

app.post("/logout", (request, response) => {
  forget(request);
  response.status(204).end();
});

app.use(express.static(PAGE, { cacheControl: false }));

app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  // Errors of this application and of the body parser, such as malformed JSON.
  if (error.expose) return response.status(error.status).json({ error: error.message });
  console.error("Verify refused the request or cannot be reached:", error.message);
  if (error.status === 429) {
    return response.status(429).json({ error: "Too many attempts. Wait a minute and try again." });
  }
  response.status(502).json({ error: "The sign-in does not work at the moment. Try again." });
});

/** Returns the SID of the push factor that the user verified last, or undefined. */
async function newestPhone(identity) {
  if (!/^[A-Za-z0-9_-]{8,64}$/.test(identity)) return undefined;
  let factors;
  try {
    factors = await service.entities(identity).factors.list();
  } catch (error) {
    if (error.status === 404) return undefined;
    throw error;
  }
  const phones = factors.filter((factor) => factor.factorType === "push" && factor.status === "verified");
  return phones.sort((one, other) => one.dateCreated - other.dateCreated).at(-1)?.sid;
}

/** Returns the state. After a denial or a wrong number, the user's phone is left alone for a while. */
function noted(login, state) {
  if (["denied", "wrong_number"].includes(state) && !login.isNoted) {
    login.isNoted = true;
    pauses.set(login.identity, Date.now() + PAUSE_MS);
  }
  return state;
}

/** Returns what the cookie is the key of, or undefined if that has ended. */
function live(request, name, store) {
  const found = store.get(cookie(request, name));
  return found?.endsAt > Date.now() ? found : undefined;
}

function currentLogin(request) {
  const login = live(request, "login", logins);
  if (!login) throw Object.assign(new Error("There is no sign-in."), { status: 404, expose: true });
  return login;
}

/** Returns the session of the browser. Everything that needs a user calls this, and never looks at a sign-in. */
function requireSignedIn(request) {
  const session = live(request, "session", sessions);
  if (!session) throw Object.assign(new Error("Sign in first."), { status: 401, expose: true });
  return session;
}

/** Gives the browser a new cookie for the entry, in place of all that it had, and removes what has ended. */
function remember(request, response, name, store, entry, view) {
  forget(request);
  for (const entries of [logins, sessions]) {
    for (const [key, { endsAt }] of entries) if (endsAt < Date.now()) entries.delete(key);
  }
  for (const [identity, until] of pauses) if (until < Date.now()) pauses.delete(identity);
  const key = crypto.randomBytes(32).toString("base64url");
  store.set(key, entry);
  const expires = new Date(entry.endsAt);
  response.cookie(name, key, { expires, secure: request.secure, httpOnly: true, sameSite: "strict" });
  response.json(view);
}

/** Ends the sign-in and the session of the browser. */
function forget(request) {
  logins.delete(cookie(request, "login"));
  sessions.delete(cookie(request, "session"));
}

function cookie(request, name) {
  return new RegExp(`(?:^|;\\s*)${name}=([\\w-]+)`).exec(request.headers.cookie ?? "")?.[1];
}

function isSameText(one, other) {
  const digest = (text) => crypto.createHash("sha256").update(text).digest();
  return crypto.timingSafeEqual(digest(one), digest(other));
}

const listener = app.listen(Number(port), "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`Running on http://127.0.0.1:${listener.address().port}`);
});
