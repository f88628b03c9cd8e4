// Tests of a backend whose sign-in needs the phone, for Vitest and Jest. Copy what is useful.
"use strict";

const twilio = require("twilio");
const { countersign, field } = require("@countersign/testing");
const { LoginBackend } = require("./login-backend.js");

const USER = "user-0001";
let backend;

async function start(options) {
  const cs = await countersign(options);
  backend = new LoginBackend(cs.twilio(twilio), cs.serviceSid);
  return cs;
}

afterEach(() => backend.close());

const isDelivered = (webhook) => webhook.attempts.some((attempt) => attempt.ending === "delivered");

test("a login waits for the phone", async () => {
  const cs = await start();
  const phone = await cs.device({ identity: USER });
  const login = await backend.startLogin(USER);
  expect(await backend.state(USER, login)).toBe("waiting");
  await phone.approve();
  expect(await backend.state(USER, login)).toBe("signed in");
});

test("a denied login is refused", async () => {
  const cs = await start();
  const phone = await cs.device({ identity: USER });
  const login = await backend.startLogin(USER);
  await phone.deny();
  expect(await backend.state(USER, login)).toBe("refused");
  await expect(phone.approve({ challengeSid: login })).rejects.toMatchObject({ status: 409 });
});

test("a webhook reports an approval", async () => {
  const cs = await start();
  await backend.subscribe();
  const phone = await cs.device({ identity: USER, approveAfter: 0 });
  const login = await backend.startLogin(USER);
  const webhook = await cs.webhooks.wait({ type: "challenge.approved", where: isDelivered });
  expect(webhook.parameters).toMatchObject({ challenge_sid: login, factor_sid: phone.factorSid });
  expect(backend.states.get(login)).toBe("signed in");
});

for (const where of [undefined, () => true]) {
  test(`a returned webhook has been handled, with ${where ? "a" : "no"} function`, async () => {
    const cs = await start();
    await backend.subscribe();
    backend.delayMilliseconds = 300;
    await cs.device({ identity: USER, approveAfter: 0 });
    const login = await backend.startLogin(USER);
    await cs.webhooks.wait({ where });
    expect(backend.states.get(login)).toBe("signed in");
  });
}

test("a push asks the phone", async () => {
  const cs = await start();
  const phone = await cs.device({ identity: USER, push: "apn" });
  const login = await backend.startLogin(USER);
  const push = await cs.pushes.wait({ factorSid: phone.factorSid });
  expect(push).toMatchObject({ provider: "apn", challenge_sid: login, outcome: "delivered" });
});

test("the code on the phone is that of the login", async () => {
  const cs = await start();
  const phone = await cs.device({ identity: USER });
  await backend.startLogin(USER, "47");
  expect(field(await phone.approve(), "code")).toBe("47");
});

test("a login times out when nobody answers", async () => {
  const cs = await start({ ownServer: true });
  await cs.device({ identity: USER, behaviour: "ignore" });
  const login = await backend.startLogin(USER);
  await cs.clock.advance({ minutes: 4 });
  expect(await backend.state(USER, login)).toBe("waiting");
  await cs.clock.advance({ minutes: 1, seconds: 1 });
  expect(await backend.state(USER, login)).toBe("timed out");
});

test("a failed webhook is sent again and delays no login", async () => {
  const cs = await start({ ownServer: true });
  await backend.subscribe();
  backend.isBroken = true;
  const phone = await cs.device({ identity: USER });
  const login = await backend.startLogin(USER);
  await cs.clock.freeze();
  await phone.approve();
  const failed = await cs.webhooks.wait({ challengeSid: login, where: (webhook) => webhook.attempts.length > 0 });
  expect(failed.attempts).toMatchObject([{ ending: "again", status: 500 }]);
  expect(backend.states.get(login)).toBe("waiting");
  expect(await backend.state(USER, login)).toBe("signed in");

  backend.isBroken = false;
  await cs.clock.advance({ seconds: 10 });
  await cs.webhooks.wait({ challengeSid: login, where: isDelivered });
});
