// Every served operation, called through Twilio's own Node library.
//
// The backend's calls use only the library; the phone's key and its signatures are made here. The environment
// has BASE_URL, ACCOUNT_SID, AUTH_TOKEN, API_KEY_SID and API_KEY_SECRET. The server must be new, and allow
// webhooks to 127.0.0.1. For each checked operation it prints "ok OPERATION", and finally "all operations work".
//
// In 6.2.0 created and listed instances do not know their SID, so their own methods fail; only fetched ones work.
// So every resource is reached by its SID here.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");
const express = require("express");
const OTPAuth = require("otpauth");
const twilio = require("twilio");
const { CreatePasskeysChallengeRequest } = require("twilio/lib/rest/verify/v2/service/newChallenge");
const { CreateNewPasskeysFactorRequest } = require("twilio/lib/rest/verify/v2/service/newFactor");

const { BASE_URL, ACCOUNT_SID, AUTH_TOKEN, API_KEY_SID, API_KEY_SECRET } = process.env;
const IDENTITY = "node-user-0001";
const EVERYTHING = "/hook?owl=%7e";
// The longest wait for background work of the server.
const PATIENCE = 60_000;
const ZEROS = "0".repeat(32);

const equal = assert.deepEqual;
const { RestException } = twilio;

function clientOf(user, password) {
  const client = twilio(user, password, { accountSid: ACCOUNT_SID });
  const { verify, notify, monitor, api, iam } = client;
  for (const domain of [verify, notify, monitor, api, iam]) domain.baseUrl = BASE_URL;
  return client;
}

function ok(...operations) {
  for (const operation of operations) console.log(`ok ${operation}`);
}

/** Checks that a value is a date close to now. */
function near(moment) {
  assert(moment instanceof Date && Math.abs(moment - new Date()) < 300_000, String(moment));
}

/** Checks that a call throws the library's exception with all its members, and returns the exception. */
async function refused(status, code, call) {
  let result;
  try {
    result = await call();
  } catch (error) {
    assert(error instanceof RestException, String(error.stack));
    equal([error.status, error.code], [status, code], error.message);
    equal(error.moreInfo, `https://www.twilio.com/docs/errors/${code}`);
    return error;
  }
  throw new Error(`not refused: ${JSON.stringify(result)}`);
}

/** Calls `look` until it returns something, and returns that. */
async function wait(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert(Date.now() < end, `${what} did not happen`);
    await sleep(50);
  }
}

/** Checks every way in which the library reads a list, in at least three pages of two. */
async function paged(name, resource, expected, { key = "sid", ...filters } = {}) {
  assert(expected.length >= 5, String(expected));
  const keys = (items) => items.map((item) => item[key]);
  const list = async (more) => keys(await resource.list({ ...more, ...filters }));

  equal(await list({}), expected);
  equal(await list({ pageSize: 2 }), expected);
  equal(await list({ pageSize: 2, limit: 3 }), expected.slice(0, 3));
  equal(await list({ limit: 1 }), expected.slice(0, 1));
  const called = await new Promise((resolve, reject) => {
    resource.list({ pageSize: 2, ...filters }, (error, items) => (error ? reject(error) : resolve(items)));
  });
  equal(keys(called), expected);
  ok(`${name}.list`);

  const each = async (more) => {
    const found = [];
    await resource.each({ ...more, ...filters }, (item) => void found.push(item[key]));
    return found;
  };
  equal(await each({ pageSize: 2 }), expected);
  equal(await each({ pageSize: 2, limit: 5 }), expected.slice(0, 5));
  const some = [];
  await resource.each({ pageSize: 2, ...filters }, (item, done) => {
    some.push(item[key]);
    if (some.length === 3) done();
  });
  equal(some, expected.slice(0, 3));
  ok(`${name}.each`);

  let page = await resource.page({ pageSize: 2, ...filters });
  equal(page.previousPage(), undefined);
  const second = page.nextPageUrl;
  const pages = [];
  let last;
  for (; page; page = await page.nextPage()) {
    pages.push(keys(page.instances));
    last = page;
  }
  equal(pages.flat(), expected);
  equal(pages.length, Math.ceil(expected.length / 2));
  equal(last.nextPageUrl, undefined);
  equal(keys((await last.previousPage()).instances), pages.at(-2));
  ok(`${name}.page`);
  equal(keys((await resource.getPage(second)).instances), pages[1]);
  // The page token is enough, together with the parameters of the list.
  const pageToken = new URL(second).searchParams.get("PageToken");
  page = await resource.page({ pageToken, pageNumber: 1, pageSize: 2, ...filters });
  equal(keys(page.instances), pages[1]);
  ok(`${name}.getPage`);
}

/** A P-256 key, and the signatures of a phone with it. */
class Phone {
  #keys = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });

  publicKey() {
    return this.#keys.publicKey.export({ type: "spki", format: "der" }).toString("base64");
  }

  /** Returns the DER signature that verifies a factor. */
  proof(factorSid) {
    return crypto.sign("sha256", Buffer.from(factorSid), this.#keys.privateKey).toString("base64");
  }

  /** Returns the signed JWT that answers a challenge: the fields that the server named, with the answer. */
  answer(body, fields, status) {
    const named = fields.split(",").map((name) => [name, body[name]]);
    const claims = { ...Object.fromEntries(named), status };
    const parts = [{ typ: "JWT", alg: "ES256" }, claims];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    const key = { key: this.#keys.privateKey, dsaEncoding: "ieee-p1363" };
    return `${signed}.${crypto.sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
  }
}

/** Sends a plain GET with the library's own connection, for values that its classes do not show. */
async function get(client, uri) {
  assert(uri.startsWith(BASE_URL), uri);
  const { statusCode, body } = await client.request({ method: "get", uri });
  return [statusCode, typeof body === "string" ? JSON.parse(body) : body];
}

/** Receives webhooks, and accepts only those that the library's middleware admits. `/gone` responds with 404. */
class Backend {
  events = [];
  unsigned = [];

  static async start() {
    const backend = new Backend();
    const app = express();
    app.use(express.urlencoded({ extended: false }));
    app.use((request, response, next) => {
      response.on("finish", () => {
        if ([400, 403].includes(response.statusCode)) backend.unsigned.push(response.statusCode);
      });
      next();
    });
    app.use(twilio.webhook(AUTH_TOKEN));
    app.post("/gone", (request, response) => response.sendStatus(404));
    app.use((request, response) => {
      const { originalUrl: path, body, headers } = request;
      const [signature, url] = [headers["x-twilio-signature"], `http://${headers.host}${path}`];
      // The function for receivers without Express; it must detect another token or URL.
      assert(twilio.validateRequest(AUTH_TOKEN, signature, url, body));
      assert(!twilio.validateRequest(ZEROS, signature, url, body));
      assert(!twilio.validateRequest(AUTH_TOKEN, signature, `${url}x`, body));
      backend.events.push([path, { ...body }]);
      response.sendStatus(200);
    });
    backend.server = await new Promise((resolve, reject) => {
      const server = app.listen(0, "127.0.0.1", (error) => (error ? reject(error) : resolve(server)));
    });
    // The middleware must refuse an invalid signature.
    const form = { method: "POST", body: new URLSearchParams({ type: "factor.created" }) };
    equal((await fetch(backend.at("/hook"), form)).status, 400);
    const forged = { ...form, headers: { "X-Twilio-Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" } };
    equal((await fetch(backend.at("/hook"), forged)).status, 403);
    await wait("both refusals", () => backend.unsigned.length === 2);
    backend.unsigned.length = 0;
    return backend;
  }

  at(path) {
    return `http://127.0.0.1:${this.server.address().port}${path}`;
  }

  /** Returns the first received event with these parameters. */
  async received(where, expected) {
    const fits = ([path, event]) =>
      path === where && Object.entries(expected).every(([name, value]) => event[name] === value);
    const [, event] = await wait(`an event with ${JSON.stringify(expected)}`, () => this.events.find(fits));
    return event;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

async function services(client) {
  const { services } = client.verify.v2;
  const made = [];
  for (let n = 0; n < 5; n++) made.push(await services.create({ friendlyName: `Owl Bank ${n}` }));
  const [first] = made;
  assert(first.sid.startsWith("VA"), first.sid);
  equal([first.accountSid, first.friendlyName], [ACCOUNT_SID, "Owl Bank 0"]);
  equal(first.url, `${BASE_URL}/v2/Services/${first.sid}`);
  equal(first.links.entities, `${first.url}/Entities`);
  equal([first.push.include_date, first.codeLength], [false, 6]);
  near(first.dateCreated);
  const other = await services.create({
    friendlyName: "Everything",
    codeLength: 4,
    lookupEnabled: true,
    ttsName: "Owl",
    "push.includeDate": true,
    "totp.issuer": "Owls",
    "totp.timeStep": 40,
    "totp.codeLength": 8,
    "totp.skew": 2,
  });
  equal([other.codeLength, other.lookupEnabled, other.ttsName], [4, true, "Owl"]);
  equal(other.totp, { issuer: "Owls", time_step: 40, code_length: 8, skew: 2 });
  equal(other.push.include_date, true);
  ok("services.create");
  equal(await services(other.sid).remove(), true);
  await refused(404, 20404, () => services(other.sid).fetch());

  await paged("services", services, made.map(({ sid }) => sid));
  for (const { sid } of made.slice(1)) {
    equal(await services(sid).remove(), true);
    await refused(404, 20404, () => services(sid).fetch());
  }
  ok("services.remove");
  const service = services(first.sid);
  const updated = await service.update({ friendlyName: "Barn Owl Bank", "push.includeDate": true });
  equal([updated.friendlyName, updated.push.include_date], ["Barn Owl Bank", true]);
  assert(updated.dateUpdated >= updated.dateCreated);
  equal((await service.update({ "push.includeDate": false })).friendlyName, "Barn Owl Bank");
  const fetched = await service.fetch();
  equal((await fetched.update({ codeLength: 5 })).codeLength, 5);
  ok("services.update");
  equal([fetched.sid, fetched.friendlyName], [first.sid, "Barn Owl Bank"]);
  const answer = await service.fetchWithHttpInfo();
  equal([answer.statusCode, answer.body.friendlyName], [200, "Barn Owl Bank"]);
  ok("services.fetch");
  equal((await services.list()).map(({ sid }) => sid), [first.sid]);
  return service;
}

async function entities(service) {
  const made = [];
  for (let n = 1; n <= 5; n++) made.push(await service.entities.create({ identity: `node-user-000${n}` }));
  const [first] = made;
  assert(first.sid.startsWith("YE"), first.sid);
  equal([first.identity, first.accountSid], [IDENTITY, ACCOUNT_SID]);
  equal(first.links.challenges, `${first.url}/Challenges`);
  near(first.dateCreated);
  await refused(409, 60301, () => service.entities.create({ identity: IDENTITY }));
  await refused(400, 60306, () => service.entities.create({ identity: "short" }));
  ok("entities.create");
  await paged("entities", service.entities, made.map(({ identity }) => identity), { key: "identity" });
  for (const entity of made.slice(1)) {
    equal(await service.entities(entity.identity).remove(), true);
    await refused(404, 20404, () => service.entities(entity.identity).fetch());
  }
  ok("entities.remove");
  const fetched = await service.entities(IDENTITY).fetch();
  equal([fetched.sid, fetched.url], [first.sid, first.url]);
  ok("entities.fetch");
  return service.entities(IDENTITY);
}

/** Runs before all pushes, whose alerts would be among these. */
async function alerts(client, service, backend) {
  const hooks = [];
  for (let n = 0; n < 5; n++) {
    const form = { friendlyName: `Nobody ${n}`, eventTypes: ["factor.created"], webhookUrl: backend.at("/gone") };
    hooks.push(await service.webhooks.create(form));
  }
  const entity = service.entities("node-alerts");
  await newFactor(entity, new Phone());
  const { alerts } = client.monitor.v1;
  await wait("five alerts", async () => (await alerts.list()).length >= 5);
  const found = await alerts.list();
  equal(new Set(found.map((alert) => alert.resourceSid)), new Set(hooks.map((hook) => hook.sid)));
  for (const alert of found) {
    assert(alert.sid.startsWith("NO"), alert.sid);
    equal([alert.accountSid, alert.errorCode, alert.logLevel], [ACCOUNT_SID, "11200", "error"]);
    equal([alert.requestMethod, alert.requestUrl], ["POST", backend.at("/gone")]);
    equal(alert.moreInfo, "https://www.twilio.com/docs/errors/11200");
    near(alert.dateCreated);
    near(alert.dateGenerated);
  }
  const sids = found.map(({ sid }) => sid);
  await paged("alerts", alerts, sids);
  const [newest, oldest] = [found[0].dateCreated, found.at(-1).dateCreated];
  const moved = (date, seconds) => new Date(date.getTime() + seconds * 1000);
  for (const [filters, expected] of [
    [{ logLevel: "error" }, sids],
    [{ logLevel: "warning" }, []],
    [{ startDate: oldest, endDate: newest }, sids],
    [{ startDate: moved(newest, 1) }, []],
    [{ endDate: moved(oldest, -1) }, []],
    [{ startDate: moved(oldest, -86_400), logLevel: "error" }, sids],
  ]) {
    const listed = await alerts.list({ pageSize: 2, ...filters });
    equal(listed.map(({ sid }) => sid), expected, JSON.stringify(filters));
  }
  ok("alerts.list by logLevel", "alerts.list by startDate and endDate");
  const alone = await alerts(sids[0]).fetch();
  equal([alone.sid, alone.resourceSid], [sids[0], found[0].resourceSid]);
  equal(new URLSearchParams(alone.requestVariables).get("type"), "factor.created");
  equal((await alone.fetch()).responseBody, alone.responseBody);
  await refused(404, 20404, () => alerts(`NO${ZEROS}`).fetch());
  ok("alerts.fetch");
  for (const { sid } of hooks) equal(await service.webhooks(sid).remove(), true);
  equal(await entity.remove(), true);
}

async function accessTokens(service) {
  const { accessTokens } = service;
  const form = { identity: IDENTITY, factorType: "push" };
  const made = await accessTokens.create({ ...form, factorFriendlyName: "Node's phone", ttl: 120 });
  assert(made.sid.startsWith("YK"), made.sid);
  equal([made.entityIdentity, made.factorType, made.ttl], [IDENTITY, "push", 120]);
  equal(made.factorFriendlyName, "Node's phone");
  near(made.dateCreated);
  equal((await accessTokens.create(form)).ttl, 60);
  await refused(400, 60306, () => accessTokens.create({ ...form, ttl: 301 }));
  ok("accessTokens.create");
  const fetched = await accessTokens(made.sid).fetch();
  equal(fetched.token, made.token);
  equal(fetched.url, `${BASE_URL}/v2/Services/${made.serviceSid}/AccessTokens/${made.sid}`);
  await refused(404, 20404, () => accessTokens(`YK${ZEROS}`).fetch());
  ok("accessTokens.fetch");

  // The use of the token by a phone.
  const phone = clientOf("token", made.token).verify.v2.services(made.serviceSid).entities(IDENTITY);
  await refused(403, 20403, () => phone.fetch());
  const enrolled = await newFactor(phone, new Phone(), { friendlyName: "Enrolled" });
  equal([enrolled.friendlyName, enrolled.status], ["Enrolled", "unverified"]);
  await refused(404, 20404, () => accessTokens(made.sid).fetch());
  ok("accessTokens as the login of a phone");
  const entity = service.entities(IDENTITY);
  equal((await entity.factors.list()).map(({ sid }) => sid), [enrolled.sid]);
  equal(await entity.factors(enrolled.sid).remove(), true);
}

function newFactor(entity, phone, more = {}) {
  return entity.newFactors.create({
    friendlyName: "Phone",
    factorType: "push",
    "binding.alg": "ES256",
    "binding.publicKey": phone.publicKey(),
    "config.appId": "com.example.app",
    "config.notificationPlatform": "none",
    "config.sdkVersion": "1.0",
    ...more,
  });
}

async function factors(entity, backend) {
  const phones = Array.from({ length: 5 }, () => new Phone());
  const push = { "config.notificationPlatform": "fcm", "config.notificationToken": "t".repeat(64) };
  const first = await newFactor(entity, phones[0], {
    friendlyName: "Phone 0",
    metadata: { os: "Node" },
    ...push,
  });
  assert(first.sid.startsWith("YF"), first.sid);
  equal([first.status, first.factorType, first.identity], ["unverified", "push", IDENTITY]);
  equal(first.binding, { alg: "ES256", public_key: phones[0].publicKey() });
  equal([first.friendlyName, first.metadata], ["Phone 0", { os: "Node" }]);
  equal(first.config.notification_token, "t".repeat(64));
  near(first.dateCreated);
  const made = [first];
  for (const phone of phones.slice(1)) made.push(await newFactor(entity, phone));
  await refused(409, 60317, () => newFactor(entity, phones[0]));
  await refused(400, 60314, () => newFactor(entity, phones[0], { "binding.publicKey": "bm8=" }));
  const event = await backend.received(EVERYTHING, { type: "factor.created", factor_sid: first.sid });
  equal([event.account_sid, event.service_sid], [ACCOUNT_SID, first.serviceSid]);
  equal([event.entity_identity, event.factor_type], [IDENTITY, "push"]);
  ok("newFactors.create");
  const sids = made.map(({ sid }) => sid);
  await paged("factors", entity.factors, sids);

  const early = { factorSid: first.sid, "details.message": "Too early?" };
  await refused(403, 60318, () => entity.challenges.create(early));
  const factor = entity.factors(first.sid);
  await refused(403, 60311, () => factor.update({ authPayload: phones[1].proof(first.sid) }));
  const verified = await factor.update({ authPayload: phones[0].proof(first.sid) });
  equal([verified.sid, verified.status], [first.sid, "verified"]);
  await backend.received(EVERYTHING, { type: "factor.verified", factor_sid: first.sid });
  ok("factors.update, which verifies");
  const updated = await factor.update({
    friendlyName: "My phone",
    "config.notificationToken": "u".repeat(64),
    "config.sdkVersion": "2.0",
  });
  equal([updated.friendlyName, updated.config.notification_token], ["My phone", "u".repeat(64)]);
  ok("factors.update");
  const fetched = await factor.fetch();
  equal([fetched.status, fetched.friendlyName], ["verified", "My phone"]);
  equal([fetched.config.sdk_version, fetched.metadata], ["2.0", { os: "Node" }]);
  ok("factors.fetch");

  for (const sid of sids.slice(2)) {
    equal(await entity.factors(sid).remove(), true);
    await refused(404, 20404, () => entity.factors(sid).fetch());
    await backend.received(EVERYTHING, { type: "factor.deleted", factor_sid: sid });
  }
  ok("factors.remove");
  const other = await entity.factors(sids[1]).update({ authPayload: phones[1].proof(sids[1]) });
  equal(other.status, "verified");
  return { factorSid: first.sid, phone: phones[0], otherSid: other.sid };
}

async function challenges(client, entity, { factorSid, phone, otherSid }, backend) {
  const expires = new Date((Math.floor(Date.now() / 1000) + 600) * 1000);
  const first = await entity.challenges.create({
    factorSid,
    expirationDate: expires,
    "details.message": "Sign in to Owl Bank/Node?",
    "details.fields": [
      { label: "IP", value: "203.0.113.9" },
      { label: "Owl", value: "ü & 🦉" },
    ],
    hiddenDetails: { txn: "a/b" },
  });
  assert(first.sid.startsWith("YC"), first.sid);
  equal([first.status, first.factorSid, first.identity], ["pending", factorSid, IDENTITY]);
  equal(first.expirationDate, expires);
  equal(first.details.message, "Sign in to Owl Bank/Node?");
  equal(first.details.fields.map(({ value }) => value), ["203.0.113.9", "ü & 🦉"]);
  equal([first.hiddenDetails, first.respondedReason], [{ txn: "a/b" }, "none"]);
  equal(first.links.notifications, `${first.url}/Notifications`);
  near(first.dateCreated);
  // The library sends null as an empty list, and as the JSON text `null`.
  const bare = await entity.challenges.create({
    factorSid,
    "details.message": "And now?",
    "details.fields": null,
    hiddenDetails: null,
  });
  equal([bare.details.fields, bare.hiddenDetails], [[], null]);

  const ask = async (sid, more = {}) => {
    const asked = await entity.challenges.create({ factorSid: sid, "details.message": "Well?", ...more });
    return asked.sid;
  };
  const sids = [first.sid, bare.sid];
  for (let n = 0; n < 5; n++) sids.push(await ask(factorSid));
  const elsewhere = await ask(otherSid);
  ok("challenges.create");

  const listed = async (filters) => {
    const found = await entity.challenges.list({ pageSize: 2, ...filters });
    return found.map(({ sid }) => sid);
  };
  await paged("challenges", entity.challenges, [...sids, elsewhere]);
  equal(await listed({ factorSid }), sids);
  equal(await listed({ factorSid: otherSid }), [elsewhere]);
  ok("challenges.list by factorSid");
  const backwards = sids.toReversed();
  equal(await listed({ order: "asc" }), [...sids, elsewhere]);
  equal(await listed({ order: "desc" }), [elsewhere, ...backwards]);
  equal(await listed({ factorSid, order: "desc" }), backwards);
  equal(await listed({ factorSid, order: "desc", limit: 3 }), backwards.slice(0, 3));
  ok("challenges.list by order");

  for (const [sid, answer] of [
    [sids[0], "approved"],
    [sids[1], "denied"],
  ]) {
    const challenge = entity.challenges(sid);
    const { headers, body: shown } = await challenge.fetchWithHttpInfo();
    const fields = headers["twilio-verify-signature-fields"];
    const [, body] = await get(client, shown.url);
    const forged = new Phone().answer(body, fields, answer);
    await refused(403, 60324, () => challenge.update({ authPayload: forged }));
    const answered = await challenge.update({ authPayload: phone.answer(body, fields, answer) });
    equal([answered.sid, answered.status], [sid, answer]);
    near(answered.dateResponded);
    const again = phone.answer(body, fields, "approved");
    await refused(403, 60322, () => challenge.update({ authPayload: again }));
    equal((await challenge.fetch()).status, answer);
    equal(await listed({ status: answer }), [sid]);
    const event = await backend.received(EVERYTHING, { type: `challenge.${answer}`, challenge_sid: sid });
    equal([event.factor_sid, event.entity_identity], [factorSid, IDENTITY]);
  }
  ok("challenges.fetch", "challenges.update, which approves", "challenges.update, which denies");
  const noted = await entity.challenges(sids[2]).update({ metadata: { seen: "yes" } });
  equal([noted.status, noted.metadata], ["pending", { seen: "yes" }]);
  ok("challenges.update");

  // Five pending challenges are three pages.
  const filters = { factorSid, status: "pending", order: "desc" };
  await paged("challenges, filtered", entity.challenges, backwards.slice(0, 5), filters);
  equal(await listed({ status: "pending" }), [...sids.slice(2), elsewhere]);
  equal(await listed({ status: "pending", factorSid: otherSid }), [elsewhere]);
  equal(await listed({ status: "expired" }), []);
  const short = await ask(factorSid, { expirationDate: new Date(Date.now() + 10000) });
  await wait("the end of a challenge", async () => (await entity.challenges(short).fetch()).status === "expired");
  equal(await listed({ status: "expired" }), [short]);
  ok("challenges.list by status");
  await notifications(entity, { pending: sids[2], expired: short, silent: elsewhere });
  // The pending challenges of a deleted factor can no longer be answered.
  await entity.factors(otherSid).remove();
  equal(await listed({ status: "expired" }), [elsewhere, short]);
}

async function notifications(entity, { pending, expired, silent }) {
  const { notifications } = entity.challenges(pending);
  const made = await notifications.create({ ttl: 150 });
  assert(made.sid.startsWith("NT"), made.sid);
  equal([made.challengeSid, made.identity, made.ttl], [pending, IDENTITY, 150]);
  equal([made.priority, made.accountSid], ["high", ACCOUNT_SID]);
  near(made.dateCreated);
  equal((await notifications.create()).ttl, 300);
  await refused(400, 60306, () => notifications.create({ ttl: 301 }));
  await notifications.create({ ttl: 0 });
  await refused(429, 60309, () => notifications.create());
  await refused(403, 60323, () => entity.challenges(expired).notifications.create());
  await refused(400, 60307, () => entity.challenges(silent).notifications.create());
  ok("notifications.create");
}

/** Creates one webhook for all events, and one for a single event in the old version. */
async function webhooks(service, backend) {
  const { webhooks } = service;
  const made = [];
  for (let n = 0; n < 5; n++) {
    const hook = await webhooks.create({
      friendlyName: `Hook ${n}`,
      eventTypes: ["factor.deleted", "challenge.denied"],
      webhookUrl: `https://backend.example/${n}?a=b`,
    });
    made.push(hook);
  }
  const [first, second] = made;
  assert(first.sid.startsWith("YW"), first.sid);
  equal([first.friendlyName, first.eventTypes], ["Hook 0", ["factor.deleted", "challenge.denied"]]);
  equal([first.status, first.version, first.webhookMethod], ["enabled", "v2", "POST"]);
  equal([first.webhookUrl, first.accountSid], ["https://backend.example/0?a=b", ACCOUNT_SID]);
  near(first.dateCreated);
  const off = await webhooks.create({
    friendlyName: "Off",
    eventTypes: ["*"],
    webhookUrl: backend.at("/never"),
    status: "disabled",
    versionParam: "v1",
  });
  equal([off.status, off.version, off.eventTypes], ["disabled", "v1", ["*"]]);
  ok("webhooks.create");
  await paged("webhooks", webhooks, [...made, off].map(({ sid }) => sid));
  const fetched = await webhooks(first.sid).fetch();
  equal([fetched.sid, fetched.url], [first.sid, first.url]);
  await refused(404, 20404, () => webhooks(`YW${ZEROS}`).fetch());
  ok("webhooks.fetch");
  const all = { friendlyName: "All of it", eventTypes: ["*"], webhookUrl: backend.at(EVERYTHING) };
  const changed = await webhooks(first.sid).update(all);
  equal([changed.friendlyName, changed.eventTypes], ["All of it", ["*"]]);
  equal(changed.webhookUrl, backend.at(EVERYTHING));
  const old = await webhooks(second.sid).update({
    eventTypes: ["factor.created"],
    webhookUrl: backend.at("/old"),
    status: "disabled",
    versionParam: "v1",
  });
  equal([old.friendlyName, old.status, old.version], ["Hook 1", "disabled", "v1"]);
  equal((await webhooks(second.sid).update({ status: "enabled" })).status, "enabled");
  ok("webhooks.update");
  for (const { sid } of made.slice(2)) {
    equal(await webhooks(sid).remove(), true);
    await refused(404, 20404, () => webhooks(sid).fetch());
  }
  ok("webhooks.remove");
}

async function rateLimits(service) {
  const { rateLimits: limits } = service;
  const made = [];
  for (let n = 0; n < 5; n++) made.push(await limits.create({ uniqueName: `limit.${n}`, description: "Per address" }));
  const [first] = made;
  assert(first.sid.startsWith("RK"), first.sid);
  equal([first.uniqueName, first.description], ["limit.0", "Per address"]);
  near(first.dateCreated);
  await refused(400, 60208, () => limits.create({ uniqueName: "limit.0" }));
  await refused(400, 60209, () => limits.create({ uniqueName: "limit 0" }));
  ok("rateLimits.create");
  await paged("rateLimits", limits, made.map(({ sid }) => sid));
  equal((await limits("limit.0").fetch()).sid, first.sid);
  ok("rateLimits.fetch");
  equal((await limits(first.sid).update({ description: "Per user" })).description, "Per user");
  ok("rateLimits.update");

  const { buckets } = limits(first.sid);
  const madeBuckets = [];
  for (let n = 0; n < 5; n++) madeBuckets.push(await buckets.create({ max: 4, interval: 60 + n }));
  const [bucket] = madeBuckets;
  assert(bucket.sid.startsWith("BL"), bucket.sid);
  equal([bucket.max, bucket.interval, bucket.rateLimitSid], [4, 60, first.sid]);
  await refused(400, 60211, () => buckets.create({ max: 5, interval: 60 }));
  const invalid = await refused(400, 60200, () => buckets.create({ max: 0, interval: 1 }));
  equal(invalid.message, "Invalid parameter: Max");
  ok("buckets.create");
  await paged("buckets", buckets, madeBuckets.map(({ sid }) => sid));
  equal((await buckets(bucket.sid).fetch()).url, bucket.url);
  ok("buckets.fetch");
  const changed = await buckets(bucket.sid).update({ max: 9, interval: 3600 });
  equal([changed.max, changed.interval], [9, 3600]);
  ok("buckets.update");
  equal(await buckets(bucket.sid).remove(), true);
  await refused(404, 20404, () => buckets(bucket.sid).fetch());
  ok("buckets.remove");
  for (const { sid } of made) {
    equal(await limits(sid).remove(), true);
    await refused(404, 20404, () => limits(sid).fetch());
  }
  ok("rateLimits.remove");
}

async function messagingConfigurations(service) {
  const { messagingConfigurations: configurations } = service;
  const [messagingServiceSid, other] = [`MG${ZEROS}`, `MG${"1".repeat(32)}`];
  const countries = ["AT", "DE", "CH", "FR", "all"];
  for (const country of countries) {
    const made = await configurations.create({ country, messagingServiceSid });
    equal([made.country, made.messagingServiceSid], [country, messagingServiceSid]);
  }
  await refused(400, 60213, () => configurations.create({ country: "AT", messagingServiceSid }));
  ok("messagingConfigurations.create");
  await paged("messagingConfigurations", configurations, countries, { key: "country" });
  equal((await configurations("all").fetch()).country, "all");
  ok("messagingConfigurations.fetch");
  const changed = await configurations("AT").update({ messagingServiceSid: other });
  equal(changed.messagingServiceSid, other);
  ok("messagingConfigurations.update");
  for (const country of countries) {
    equal(await configurations(country).remove(), true);
    await refused(404, 20404, () => configurations(country).fetch());
  }
  ok("messagingConfigurations.remove");
}

async function safeList(client) {
  const { safelist, forms } = client.verify.v2;
  const phoneNumber = "+4366412345678";
  const made = await safelist.create({ phoneNumber });
  assert(made.sid.startsWith("GN"), made.sid);
  await refused(409, 60411, () => safelist.create({ phoneNumber }));
  await refused(400, 60306, () => safelist.create({ phoneNumber: "0664" }));
  ok("safelist.create");
  equal([(await safelist(phoneNumber).fetch()).sid, made.phoneNumber], [made.sid, phoneNumber]);
  ok("safelist.fetch");
  equal(await safelist(phoneNumber).remove(), true);
  await refused(404, 20404, () => safelist(phoneNumber).fetch());
  ok("safelist.remove");
  const form = await forms("form-push").fetch();
  equal([form.formType, Object.keys(form.forms).sort()], ["form-push", ["create_challenge", "create_factor", "verify_factor"]]);
  ok("forms.fetch");
}

/** Checks the events that all previous operations caused. */
async function deliveries(backend) {
  const event = await backend.received("/old", { type: "factor.created", entity_identity: IDENTITY });
  const names = ["account_sid", "entity_identity", "factor_sid", "service_sid", "type", "uuid"];
  equal(Object.keys(event).sort(), names);
  equal(new Set(backend.events.map(([path]) => path)), new Set(["/old", EVERYTHING]));
  const types = backend.events.filter(([path]) => path === EVERYTHING).map(([, { type }]) => type);
  const expected = ["challenge.approved", "challenge.denied", "factor.created", "factor.deleted", "factor.verified"];
  equal([...new Set(types)].sort(), expected);
  equal(backend.unsigned, []);
  ok(...expected.map((name) => `webhook ${name}, validated`));
}

function newRsa() {
  return crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
}

function serviceAccount({ privateKey }) {
  return JSON.stringify({
    type: "service_account",
    project_id: "owl-bank",
    private_key_id: "0123456789abcdef",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    client_email: "push@owl-bank.iam.gserviceaccount.com",
    token_uri: "https://oauth2.googleapis.com/token",
  });
}

/** Returns a value in DER. */
function der(tag, ...contents) {
  const body = Buffer.concat(contents.map((content) => Buffer.from(content)));
  if (body.length < 128) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

/** Returns a self-signed certificate like those that Apple issues for an app; Node can only read certificates. */
function pushCertificate({ privateKey, publicKey }, bundle) {
  const sequence = (...parts) => der(0x30, ...parts);
  const oid = (hex) => der(0x06, Buffer.from(hex, "hex"));
  const text = (value) => der(0x0c, value);
  // UTCTime has a two-digit year.
  const time = (days) => {
    const date = new Date(Date.now() + days * 86_400_000).toISOString();
    return der(0x17, `${date.replace(/\D/g, "").slice(2, 14)}Z`);
  };
  const named = (type, value) => der(0x31, sequence(oid(type), text(value)));
  const name = sequence(
    named("0992268993f22c640101", bundle), // user id
    named("550403", `Apple Push Services: ${bundle}`), // common name
  );
  const sha256WithRsa = sequence(oid("2a864886f70d01010b"), der(0x05));
  // Apple's extensions for the sandbox and for production; their value is NULL.
  const marks = ["2a864886f763640603" + "01", "2a864886f763640603" + "02"];
  const extensions = sequence(...marks.map((mark) => sequence(oid(mark), der(0x04, der(0x05)))));
  const body = sequence(
    der(0xa0, der(0x02, [2])),
    der(0x02, [1, ...crypto.randomBytes(8)]),
    sha256WithRsa,
    name,
    sequence(time(-1), time(300)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, extensions),
  );
  const signature = crypto.sign("sha256", body, privateKey);
  return new crypto.X509Certificate(sequence(body, sha256WithRsa, der(0x03, [0], signature))).toString();
}

async function credentials(client, service) {
  const { credentials } = client.notify.v1;
  const [keys, others] = [newRsa(), newRsa()];
  // In the format of `openssl rsa`, which Twilio's documentation shows.
  const privateKey = keys.privateKey.export({ type: "pkcs1", format: "pem" });
  const apn = await credentials.create({
    type: "apn",
    friendlyName: "Owls on iOS",
    certificate: pushCertificate(keys, "com.example.app"),
    privateKey,
    sandbox: false,
  });
  assert(apn.sid.startsWith("CR"), apn.sid);
  equal([apn.type, apn.friendlyName, apn.sandbox], ["apn", "Owls on iOS", "False"]);
  equal([apn.accountSid, apn.url], [ACCOUNT_SID, `${BASE_URL}/v1/Credentials/${apn.sid}`]);
  near(apn.dateCreated);
  const foreign = pushCertificate(others, "com.example.app");
  await refused(400, 60306, () => credentials.create({ type: "apn", certificate: foreign, privateKey }));
  ok("credentials.create for APNs");
  const secret = serviceAccount(keys);
  const fcm = await credentials.create({ type: "fcm", friendlyName: "Owls on Android", secret });
  equal([fcm.type, fcm.friendlyName, fcm.sandbox], ["fcm", "Owls on Android", null]);
  await refused(400, 60306, () => credentials.create({ type: "fcm", secret: "AAAA-legacy-server-key" }));
  await refused(400, 60306, () => credentials.create({ type: "gcm", apiKey: "AAAA-legacy-server-key" }));
  ok("credentials.create for FCM");
  const made = [apn, fcm];
  for (let n = 0; n < 3; n++) made.push(await credentials.create({ type: "fcm", secret }));
  await paged("credentials", credentials, made.map(({ sid }) => sid));
  const fetched = await credentials(apn.sid).fetch();
  equal([fetched.sid, fetched.friendlyName], [apn.sid, "Owls on iOS"]);
  ok("credentials.fetch");
  equal((await credentials(apn.sid).update({ friendlyName: "Barn owls" })).friendlyName, "Barn owls");
  equal((await credentials(apn.sid).update({ sandbox: true })).sandbox, "True");
  const certificate = pushCertificate(keys, "com.example.app");
  equal((await credentials(apn.sid).update({ certificate, privateKey, sandbox: false })).sandbox, "False");
  equal((await credentials(fcm.sid).update({ secret: serviceAccount(others) })).friendlyName, "Owls on Android");
  ok("credentials.update");

  const named = await service.update({ "push.apnCredentialSid": apn.sid, "push.fcmCredentialSid": fcm.sid });
  equal([named.push.apn_credential_sid, named.push.fcm_credential_sid], [apn.sid, fcm.sid]);
  equal((await service.fetch()).push, named.push);
  // Remove the credential again, so that nothing is sent to Google from here on.
  const without = await service.update({ "push.apnCredentialSid": "", "push.fcmCredentialSid": "" });
  equal([without.push.apn_credential_sid, without.push.fcm_credential_sid], [null, null]);
  ok("services.update with credentials");
  for (const { sid } of made) {
    equal(await credentials(sid).remove(), true);
    await refused(404, 20404, () => credentials(sid).fetch());
  }
  equal(await credentials.list(), []);
  ok("credentials.remove");
}

async function errors(client, serviceSid) {
  const { services } = client.verify.v2;
  const missing = services(`VA${ZEROS}`);
  const error = await refused(404, 20404, () => missing.fetch());
  assert(error.message.includes(`/Services/VA${ZEROS} was not found`), error.message);
  await refused(404, 20404, () => missing.remove());
  await refused(404, 20404, () => missing.update({ friendlyName: "Nobody's" }));
  ok("error 404");
  await refused(400, 20002, () => services.create({ friendlyName: "x".repeat(65) }));
  await refused(400, 20001, () => services.create({ friendlyName: "" }));
  ok("error 400");
  await refused(400, 20007, () => services.list({ pageSize: 1001 }));
  await refused(404, 20404, () => missing.entities.list());
  await refused(404, 20404, () => missing.entities.each(() => assert.fail("there is none")));
  ok("error of a list");
  const wrong = clientOf(ACCOUNT_SID, "f".repeat(32));
  await refused(401, 20003, () => wrong.verify.v2.services(serviceSid).fetch());
  await refused(401, 20003, () => wrong.verify.v2.services.create({ friendlyName: "Nobody's" }));
  await refused(401, 20003, () => wrong.notify.v1.credentials.list());
  await refused(401, 20003, () => wrong.monitor.v1.alerts.list());
  ok("error 401");
}

/** A software authenticator with one ES256 passkey. */
class Authenticator {
  constructor() {
    this.id = crypto.randomBytes(16);
    this.keys = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.counter = 0;
  }

  /** Returns the credential that a browser returns for the creation options. */
  register({ publicKey: { rp, user, challenge, pubKeyCredParams } }) {
    assert(pubKeyCredParams.some(({ alg }) => alg === -7));
    this.rpId = rp.id;
    this.userHandle = user.id;
    const { x, y } = this.keys.publicKey.export({ format: "jwk" });
    const cose = Buffer.concat([
      Buffer.from("a5010203262001215820", "hex"),
      Buffer.from(x, "base64url"),
      Buffer.from("225820", "hex"),
      Buffer.from(y, "base64url"),
    ]);
    const length = Buffer.from([0, this.id.length]);
    const data = Buffer.concat([this.data(0x45), Buffer.alloc(16), length, this.id, cose]);
    const head = Buffer.from("a363666d74646e6f6e656761747453746d74a068617574684461746158", "hex");
    const attestation = Buffer.concat([head, Buffer.from([data.length]), data]);
    return this.asJson({
      clientDataJSON: clientData("webauthn.create", challenge).toString("base64url"),
      attestationObject: attestation.toString("base64url"),
      transports: ["internal"],
    });
  }

  /** Returns the credential that a browser returns for the request options. */
  signIn({ publicKey: { rpId, challenge } }) {
    equal(rpId, this.rpId);
    this.counter += 1;
    const client = clientData("webauthn.get", challenge);
    const data = this.data(0x05);
    const signed = Buffer.concat([data, crypto.createHash("sha256").update(client).digest()]);
    return this.asJson({
      clientDataJSON: client.toString("base64url"),
      authenticatorData: data.toString("base64url"),
      signature: crypto.sign("sha256", signed, this.keys.privateKey).toString("base64url"),
      userHandle: this.userHandle,
    });
  }

  data(flags) {
    const hash = crypto.createHash("sha256").update(this.rpId).digest();
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(this.counter);
    return Buffer.concat([hash, Buffer.from([flags]), counter]);
  }

  asJson(response) {
    const id = this.id.toString("base64url");
    return { id, rawId: id, type: "public-key", authenticatorAttachment: "platform", response };
  }
}

function clientData(type, challenge) {
  return Buffer.from(JSON.stringify({ type, challenge, origin: "https://example.com", crossOrigin: false }));
}

async function passkeys(client) {
  const { sid } = await client.verify.v2.services.create({
    friendlyName: "Passkeys",
    "passkeys.relyingParty.id": "example.com",
    "passkeys.relyingParty.name": "Owl Bank",
    "passkeys.relyingParty.origins": "https://example.com",
    "passkeys.authenticatorAttachment": "any",
    "passkeys.discoverableCredentials": "preferred",
    "passkeys.userVerification": "required",
  });
  const service = client.verify.v2.services(sid);
  const plain = { friendly_name: "Laptop", identity: IDENTITY, config: { user_verification: "required" } };
  // The typed class has members in camel case, and the library sends them as they are.
  const typed = new CreateNewPasskeysFactorRequest({ ...plain, friendly_name: "Phone" });
  equal(typed.friendlyName, "Phone");
  for (const request of [plain, typed]) {
    const authenticator = new Authenticator();
    const made = await service.newFactors.create(request);
    equal([made.status, made.factorType, made.friendlyName === "Phone"], ["unverified", "passkeys", request === typed]);
    const credential = authenticator.register(made.options);
    const verified = await service.newVerifyFactors.update(credential);
    equal([verified.sid, verified.status], [made.sid, "verified"]);
    await refused(400, 60383, () => service.newVerifyFactors.update(credential));

    const typedChallenge = new CreatePasskeysChallengeRequest({ factor_sid: made.sid });
    for (const selection of [typedChallenge, { identity: IDENTITY }, undefined]) {
      const challenge = await service.newChallenge().create(selection);
      equal([challenge.status, challenge.factorType], ["pending", "passkeys"]);
      const answer = authenticator.signIn(challenge.options);
      const approved = await service.approveChallenge.update(answer);
      equal([approved.sid, approved.status], [challenge.sid, "approved"]);
      equal([approved.identity, approved.factorSid], [IDENTITY, made.sid]);
      near(approved.dateResponded);
      await refused(403, 60322, () => service.approveChallenge.update(answer));
    }
  }
  ok("newFactors.create (passkeys)", "newVerifyFactors.update", "newChallenge.create", "approveChallenge.update");
  const listed = await service.entities(IDENTITY).factors.list();
  equal(listed.map(({ factorType }) => factorType), ["passkeys", "passkeys"]);
  equal(await service.entities(IDENTITY).factors(listed[0].sid).remove(), true);
  ok("factors of type passkeys");
  equal(await service.remove(), true);
}

/** Fetches the account, with which many programs check their credentials. */
async function account(client) {
  const fetch = (client) => client.api.v2010.accounts(ACCOUNT_SID).fetch();
  for (const fetched of [await fetch(client), await fetch(clientOf(API_KEY_SID, API_KEY_SECRET))]) {
    equal([fetched.sid, fetched.ownerAccountSid], [ACCOUNT_SID, ACCOUNT_SID]);
    equal([fetched.status, fetched.type, fetched.authToken], ["active", "Full", ""]);
    near(fetched.dateCreated);
    equal(fetched.uri, `/2010-04-01/Accounts/${ACCOUNT_SID}.json`);
    equal(fetched.subresourceUris, { keys: `/2010-04-01/Accounts/${ACCOUNT_SID}/Keys.json` });
  }
  await refused(404, 20404, () => client.api.v2010.accounts(`AC${ZEROS}`).fetch());
  await refused(401, 20003, () => fetch(clientOf(ACCOUNT_SID, "f".repeat(32))));
  ok("accounts.fetch");
}

/** Manages API keys at both of their addresses. The key of the environment exists already. */
async function apiKeys(client) {
  const { apiKey, getApiKeys, newApiKey } = client.iam.v1;
  const accountSid = ACCOUNT_SID;
  const made = [];
  for (const friendlyName of ["Key 0", "Key 1"]) made.push(await client.newKeys.create({ friendlyName }));
  made.push(await client.newKeys.create());
  for (const friendlyName of ["Key 0", "Key 1"]) made.push(await newApiKey.create({ accountSid, friendlyName }));
  for (const { sid, secret } of made) {
    assert(sid.startsWith("SK") && /^[0-9A-Za-z]{32}$/.test(secret), sid);
    equal((await clientOf(sid, secret).verify.v2.services.list({ limit: 1 })).length, 1);
  }
  near(made[0].dateCreated);
  equal(made.map(({ friendlyName }) => friendlyName), ["Key 0", "Key 1", "API key", "Key 0", "Key 1"]);
  await refused(404, 20404, () => newApiKey.create({ accountSid: `AC${ZEROS}` }));
  for (const more of [{ keyType: "restricted" }, { policy: { allow: ["/twilio/verify/services/read"] } }]) {
    const error = await refused(400, 60306, () => newApiKey.create({ accountSid, ...more }));
    assert(error.message.includes("no restricted API keys"), error.message);
  }
  const withKey = clientOf(made[0].sid, made[0].secret);
  await refused(403, 20403, () => withKey.newKeys.create());
  await refused(403, 20403, () => withKey.iam.v1.newApiKey.create({ accountSid }));
  ok("newKeys.create", "newApiKey.create");

  const sids = [API_KEY_SID, ...made.map(({ sid }) => sid)];
  await paged("keys", client.keys, sids);
  await paged("getApiKeys", getApiKeys, sids, { accountSid });
  equal((await getApiKeys.list({ accountSid, limit: 1 }))[0].flags, ["rest_api"]);

  const [first, second] = [made[0].sid, made[3].sid];
  const nameOf = async (call) => (await call).friendlyName;
  equal(await nameOf(client.keys(first).fetch()), "Key 0");
  equal(await nameOf(apiKey(second).fetch()), "Key 0");
  ok("keys.fetch", "apiKey.fetch");
  equal(await nameOf(client.keys(first).update({ friendlyName: "Owls" })), "Owls");
  equal(await nameOf(apiKey(first).fetch()), "Owls");
  equal(await nameOf(apiKey(second).update({ friendlyName: "Barn owls" })), "Barn owls");
  equal(await nameOf(client.keys(second).fetch()), "Barn owls");
  ok("keys.update", "apiKey.update");
  for (const [index, { sid, secret }] of made.entries()) {
    const resource = index < 3 ? client.keys(sid) : apiKey(sid);
    await refused(403, 20403, () => clientOf(sid, secret).keys(sid).remove());
    equal(await resource.remove(), true);
    await refused(404, 20404, () => resource.fetch());
    await refused(401, 20003, () => clientOf(sid, secret).verify.v2.services(`VA${ZEROS}`).fetch());
  }
  equal((await client.keys.list()).length, 1);
  ok("keys.remove", "apiKey.remove");
}

async function apiKey(serviceSid) {
  const client = clientOf(API_KEY_SID, API_KEY_SECRET);
  const service = client.verify.v2.services(serviceSid);
  equal((await service.fetch()).accountSid, ACCOUNT_SID);
  const entity = await service.entities.create({ identity: "made-with-a-key" });
  equal(entity.accountSid, ACCOUNT_SID);
  equal(await service.entities("made-with-a-key").remove(), true);
  equal(await client.notify.v1.credentials.list(), []);
  equal((await client.monitor.v1.alerts.list({ limit: 1 })).length, 1);
  const wrong = clientOf(API_KEY_SID, "f".repeat(32));
  await refused(401, 20003, () => wrong.verify.v2.services(serviceSid).fetch());
  ok("API key");
}

/** Returns codes that are wrong for some minutes. */
function wrongCodes(app, number) {
  const near = new Set();
  for (let step = -10; step <= 10; step++) near.add(codeOf(app, step));
  const codes = [];
  for (let code = 0; codes.length < number; code++) {
    const text = String(code).padStart(app.digits, "0");
    if (!near.has(text)) codes.push(text);
  }
  return codes;
}

/** Returns the code that the app shows so many time steps after the current one. */
function codeOf(app, steps) {
  return app.generate({ timestamp: Date.now() + steps * app.period * 1000 });
}

async function totp(service) {
  const entity = service.entities("node-totp-0001");
  const create = (more) =>
    entity.newFactors.create({ friendlyName: "Ada: phone & co", factorType: "totp", ...more });
  await service.update({
    "totp.issuer": "Owl Bank & ü",
    "totp.timeStep": 60,
    "totp.codeLength": 8,
    "totp.skew": 2,
  });
  const factor = await create({ "config.alg": "sha256", metadata: { os: "Node" } });
  assert(factor.sid.startsWith("YF02"), factor.sid);
  equal([factor.status, factor.factorType, factor.identity], ["unverified", "totp", "node-totp-0001"]);
  equal(factor.config, { alg: "sha256", skew: 2, code_length: 8, time_step: 60 });
  equal([factor.options, factor.metadata], [null, { os: "Node" }]);
  const app = OTPAuth.URI.parse(factor.binding.uri);
  assert(app instanceof OTPAuth.TOTP);
  equal([app.issuer, app.label], ["Owl Bank & ü", "Ada: phone & co"]);
  equal([app.secret.base32, app.algorithm], [factor.binding.secret, "SHA256"]);
  equal([app.digits, app.period], [8, 60]);
  const secret = new OTPAuth.Secret().base32;
  const imported = await create({
    "binding.secret": secret,
    "config.alg": "sha1",
    "config.timeStep": 30,
    "config.codeLength": 6,
    "config.skew": 1,
  });
  equal(imported.binding.secret, secret);
  equal(imported.config, { alg: "sha1", skew: 1, code_length: 6, time_step: 30 });
  const other = OTPAuth.URI.parse(imported.binding.uri);
  equal([other.secret.base32, other.algorithm, other.digits, other.period], [secret, "SHA1", 6, 30]);
  await refused(409, 60317, () => create({ "binding.secret": secret.toLowerCase() }));
  await refused(400, 60314, () => create({ "binding.secret": "1" }));
  await refused(400, 60306, () => create({ "config.alg": "md5" }));
  ok("newFactors.create, of TOTP");

  const resource = entity.factors(factor.sid);
  const fetched = await resource.fetch();
  equal([fetched.status, fetched.config], ["unverified", factor.config]);
  equal((await entity.factors.list()).map(({ sid }) => sid), [factor.sid, imported.sid]);
  const challenge = (more) => entity.challenges.create({ factorSid: factor.sid, ...more });
  await refused(403, 60318, () => challenge({ authPayload: codeOf(app, 0) }));
  await refused(400, 60306, () => resource.update({ authPayload: "12" }));
  const statusOf = async (request) => (await request).status;
  equal(await statusOf(resource.update({ authPayload: wrongCodes(app, 1)[0] })), "unverified");
  equal(await statusOf(resource.update({ authPayload: codeOf(app, -1) })), "verified");
  // A verified factor ignores codes.
  equal(await statusOf(resource.update({ authPayload: wrongCodes(app, 1)[0] })), "verified");
  const lockedFactor = entity.factors(imported.sid);
  for (const authPayload of wrongCodes(other, 5)) {
    equal(await statusOf(lockedFactor.update({ authPayload })), "unverified");
  }
  await refused(429, 60310, () => lockedFactor.update({ authPayload: codeOf(other, 0) }));
  ok("factors.update, which verifies TOTP");
  const updated = await resource.update({ friendlyName: "Tablet", "config.skew": 1 });
  equal([updated.friendlyName, updated.config.skew], ["Tablet", 1]);
  equal((await resource.update({ "config.skew": 2 })).config.skew, 2);
  ok("factors.update, of TOTP");

  const code = codeOf(app, 0);
  const approved = await challenge({ authPayload: code });
  assert(approved.sid.startsWith("YC02"), approved.sid);
  equal([approved.status, approved.factorType, approved.factorSid], ["approved", "totp", factor.sid]);
  equal([approved.details, approved.hiddenDetails], [{ message: "", fields: [] }, null]);
  near(approved.dateResponded);
  equal(await statusOf(challenge({ authPayload: code })), "pending");
  await refused(403, 60322, () => entity.challenges(approved.sid).update({ authPayload: code }));
  ok("challenges.create, with a code");
  const made = await challenge({ "details.message": "Well?", hiddenDetails: { a: "b" } });
  const pending = entity.challenges(made.sid);
  for (const authPayload of wrongCodes(app, 4)) {
    equal(await statusOf(pending.update({ authPayload })), "pending");
  }
  const answered = await pending.update({ authPayload: codeOf(app, 1), metadata: { try: "5" } });
  equal([answered.status, answered.metadata], ["approved", { try: "5" }]);
  equal(await statusOf(pending.fetch()), "approved");
  await refused(400, 60307, () => pending.notifications.create());
  const locked = entity.challenges((await challenge({})).sid);
  for (const authPayload of wrongCodes(app, 5)) {
    equal(await statusOf(locked.update({ authPayload })), "pending");
  }
  await refused(429, 60308, () => locked.update({ authPayload: codeOf(app, 2) }));
  ok("challenges.update, with a code");
  equal(await resource.remove(), true);
  await refused(404, 20404, () => resource.fetch());
  const statuses = new Set((await entity.challenges.list()).map(({ status }) => status));
  equal(statuses, new Set(["approved", "expired"]));
  equal(await entity.remove(), true);
}

async function templates(client) {
  const { templates } = client.verify.v2;
  const found = await templates.list({ friendlyName: "Login" });
  equal(found.length, 1);
  const [template] = found;
  assert(template.sid.startsWith("HJ"), template.sid);
  equal([template.accountSid, template.channels], [ACCOUNT_SID, ["sms", "voice"]]);
  const { en } = template.translations;
  equal([en.text, en.is_default_translation], ["{{code}} logs you in", true]);
  near(new Date(en.date_created));
  equal(await templates.list({ friendlyName: "Logout" }), []);
  const page = await templates.page({ pageSize: 1 });
  equal(page.instances.map(({ sid }) => sid), [template.sid]);
  ok("templates.list", "templates.page");
}

async function verifications(client) {
  const { sid } = await client.verify.v2.services.create({ friendlyName: "Codes", customCodeEnabled: true });
  const service = client.verify.v2.services(sid);
  const [to, code] = ["+4366412345678", "123456"];
  const first = await service.verifications.create({ to, channel: "sms", customCode: code });
  equal([first.status, first.valid, first.channel, first.to], ["pending", false, "sms", to]);
  for (const key of [first.sid, to]) {
    equal((await service.verifications(key).fetch()).sid, first.sid);
  }
  ok("verifications.create", "verifications.fetch");
  const wrong = await service.verificationChecks.create({ to, code: "654321" });
  equal([wrong.status, wrong.valid], ["pending", false]);
  const right = await service.verificationChecks.create({ verificationSid: first.sid, code });
  equal([right.sid, right.status, right.valid], [first.sid, "approved", true]);
  await refused(404, 20404, () => service.verifications(to).fetch());
  ok("verificationChecks.create");
  const second = await service.verifications.create({ to, channel: "sms" });
  equal((await service.verifications(second.sid).update({ status: "canceled" })).status, "canceled");
  ok("verifications.update");
  await refused(400, 60200, () => service.verifications.create({ to, channel: "sna" }));
  const attempts = await client.verify.v2.verificationAttempts.list({ verifyServiceSid: sid });
  equal(attempts.map(({ conversionStatus }) => conversionStatus), ["unconverted", "converted"]);
  await service.remove();
}

/** Checks only the form of the requests: this service sends no codes. */
async function attempts(client) {
  const { verificationAttempts, verificationAttemptsSummary } = client.verify.v2;
  const filters = {
    dateCreatedAfter: new Date(Date.now() - 86_400_000),
    dateCreatedBefore: new Date(),
    country: "AT",
    channel: "sms",
    verifyServiceSid: `VA${ZEROS}`,
  };
  const more = { "channelData.to": "+4366412345678", verificationSid: `VE${ZEROS}`, status: "unconverted" };
  equal(await verificationAttempts.list({ ...filters, ...more }), []);
  await refused(400, 60306, () => verificationAttempts.list({ channel: "pigeon" }));
  ok("verificationAttempts.list");
  await refused(404, 20404, () => verificationAttempts(`VL${ZEROS}`).fetch());
  ok("verificationAttempts.fetch");
  const summary = await verificationAttemptsSummary().fetch({ ...filters, destinationPrefix: "+43" });
  equal([summary.totalAttempts, summary.totalConverted, summary.totalUnconverted], [0, 0, 0]);
  equal([summary.conversionRatePercentage, summary.url], ["0", `${BASE_URL}/v2/Attempts/Summary`]);
  ok("verificationAttemptsSummary.fetch");
}

async function main() {
  console.log(`client twilio-node ${require("twilio/package.json").version}`);
  const client = clientOf(ACCOUNT_SID, AUTH_TOKEN);
  const service = await services(client);
  const { sid } = await service.fetch();
  const backend = await Backend.start();
  let entity;
  try {
    entity = await entities(service);
    await alerts(client, service, backend);
    await credentials(client, service);
    await accessTokens(service);
    await webhooks(service, backend);
    await rateLimits(service);
    await messagingConfigurations(service);
    await safeList(client);
    const phones = await factors(entity, backend);
    await challenges(client, entity, phones, backend);
    await deliveries(backend);
    await totp(service);
  } finally {
    backend.stop();
  }
  await templates(client);
  await verifications(client);
  await attempts(client);
  await passkeys(client);
  await errors(client, sid);
  await account(client);
  await apiKeys(client);
  await apiKey(sid);
  equal(await entity.remove(), true);
  await refused(404, 20404, () => entity.fetch());
  equal(await service.remove(), true);
  await refused(404, 20404, () => service.fetch());
  equal(await client.verify.v2.services.list(), []);
  console.log("all operations work");
}

main().then(
  // The library's open connections would keep the process alive.
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
