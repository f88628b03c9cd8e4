// Tests of the fixture itself: start and end of the server, isolation, and the output of failed tests.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { connect } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { CountersignError, Server, countersign } from "@countersign/testing";

const run = promisify(execFile);
const HOLDER = `
const { Server } = require("@countersign/testing");
Server.start().then((server) => console.log(server.url));
setTimeout(() => {}, 60_000);
`;
const FAILING = `
const { countersign } = require("@countersign/testing");
for (const ownServer of [false, true]) {
  test("fails, own server: " + ownServer, async () => {
    const cs = await countersign({ ownServer });
    const phone = await cs.device({ identity: "user-0001" });
    const challenges = cs.twilio(require("twilio")).verify.v2.services(cs.serviceSid).entities("user-0001").challenges;
    const { sid } = await challenges.create({ factorSid: phone.factorSid, "details.message": "Sign in?" });
    await phone.deny();
    expect((await challenges(sid).fetch()).status).toBe("approved");
  });
}
`;

// Whether the server still listens. While it stops, it answers every request with 503.
async function isUp(url) {
  const { hostname, port } = new URL(url);
  const connection = connect(Number(port), hostname);
  try {
    await once(connection, "connect");
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}

async function withEnv(name, value, action) {
  const before = process.env[name];
  process.env[name] = value;
  try {
    await action();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}

test("a start takes less than a second", async () => {
  const times = [];
  // Again if it is slow, because other tests may load the machine.
  while (times.length < 10 && Math.min(1, ...times) >= 1) {
    const server = await Server.start();
    times.push(server.startSeconds);
    await server.stop();
    assert(!(await isUp(server.url)), "a stopped server answers");
  }
  assert(Math.min(...times) < 1, String(times));
});

test("a killed test process leaves no server", async () => {
  const holder = spawn(process.execPath, ["-e", HOLDER], { stdio: ["ignore", "pipe", "inherit"] });
  const url = String((await once(holder.stdout, "data"))[0]).trim();
  assert(await isUp(url));
  holder.kill("SIGKILL");
  await once(holder, "exit");
  for (const end = Date.now() + 10_000; await isUp(url); await sleep(20)) {
    assert(Date.now() < end, "the server outlives the process that started it");
  }
});

test("settings of production in the environment are not used", async () => {
  await withEnv("COUNTERSIGN_DATABASE_URL", "postgres://production/countersign", async () => {
    await (await Server.start()).stop();
  });
});

test("a missing binary is named", async () => {
  await withEnv("COUNTERSIGN_BINARY", "/nowhere/countersign", async () => {
    await assert.rejects(Server.start(), /COUNTERSIGN_BINARY is not a program: \/nowhere\/countersign/);
  });
});

test("a server that ends at once shows its log", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "countersign-fixture-"));
  const program = path.join(folder, "countersign");
  fs.writeFileSync(program, "#!/bin/sh\necho out of order >&2\nexit 1\n", { mode: 0o755 });
  await withEnv("COUNTERSIGN_BINARY", program, async () => {
    await assert.rejects(Server.start(), /ended before it was ready:\nout of order/);
  });
  fs.rmSync(folder, { recursive: true });
});

test("without a global setup there is no server", async () => {
  await assert.rejects(countersign(), /add @countersign\/testing\/global-setup/);
});

test("a shared server", async (t) => {
  const server = await Server.start({ isShared: true });
  try {
    await withEnv("COUNTERSIGN_URL", server.url, async () => {
      const [first, second] = [await countersign(), await countersign()];
      await t.test("gives each test an account of its own", () => {
        assert.notEqual(first.accountSid, second.accountSid);
        assert.notEqual(first.serviceSid, second.serviceSid);
      });
      await t.test("accepts a name with any characters", async () => {
        for (const friendlyName of ["tab\t, line\r\n, \x00\x1f\x7f\x85\x9f", `${"x".repeat(63)}👋`]) {
          await countersign({ friendlyName });
        }
      });
      await t.test("does not let its clock be moved", () => {
        assert.throws(() => first.clock.advance({ minutes: 5 }), CountersignError);
        assert.throws(() => first.clock, /give the test a server of its own: countersign\({ ownServer: true }\)/);
      });
    });
  } finally {
    await server.stop();
  }
});

test("the clock travels to an instant within the second", async () => {
  const server = await Server.start();
  try {
    const now = await server.clock.freeze();
    assert.deepEqual(await server.clock.travelTo(now), now);
    const later = new Date(now.getTime() + 1);
    assert.deepEqual(await server.clock.travelTo(later), later);
  } finally {
    await server.stop();
  }
});

test("a program that tests have started does not delay the stop", async () => {
  const server = await Server.start();
  const program = spawn("sleep", ["60"], { stdio: "ignore" });
  try {
    await server.stop();
    assert(!(await isUp(server.url)));
  } finally {
    program.kill();
  }
});

// In the folder of the samples, for their packages and settings.
const failing = path.resolve("failing");
before(() => {
  fs.mkdirSync(failing, { recursive: true });
  for (const file of ["vitest.config.mjs", "jest.config.js"]) fs.copyFileSync(file, path.join(failing, file));
  fs.writeFileSync(path.join(failing, "failing.test.js"), FAILING);
});
after(() => fs.rmSync(failing, { recursive: true }));

for (const [runner, ...options] of [["vitest", "run"], ["jest", "--ci"]]) {
  test(`${runner} shows the log of the phone and the captures of a failed test`, async () => {
    const command = [path.resolve("node_modules/.bin", runner), ...options];
    const failed = await run(process.execPath, command, { cwd: failing, env: { ...process.env, NO_COLOR: "1" } }).then(
      () => assert.fail("the test passed"),
      (error) => error.stdout + error.stderr,
    );
    const reports = failed.split(/account AC/).slice(1);
    assert(reports.length >= 2, failed);
    for (const report of reports) {
      assert.match(report, /log of the phone of user-0001, factor YF/);
      assert.match(report, / deny 200/);
      assert.match(report, /last pushes\n.* fcm YC/);
      assert.match(report, /last webhooks\n\s+none/);
    }
  });
}
