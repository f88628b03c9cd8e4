// For `globalSetup` of Vitest and Jest: starts the server that all workers use, unless COUNTERSIGN_URL names one.
"use strict";

const { Server } = require("./server.js");

const SERVER = Symbol.for("countersign.testing.server");

module.exports = async function setup() {
  if (process.env.COUNTERSIGN_URL) {
    await Server.attach(process.env.COUNTERSIGN_URL);
    return undefined;
  }
  const server = await Server.start({ isShared: true });
  globalThis[SERVER] = server;
  // Workers inherit it.
  process.env.COUNTERSIGN_URL = server.url;
  // Vitest calls what a setup returns; Jest needs a `globalTeardown`.
  return module.exports.teardown;
};

module.exports.teardown = async function teardown() {
  const server = globalThis[SERVER];
  if (!server) return;
  delete globalThis[SERVER];
  delete process.env.COUNTERSIGN_URL;
  await server.stop();
};
