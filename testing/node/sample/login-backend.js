// The backend under test: a sign-in that the user's phone approves, written with Twilio's library alone.
"use strict";

const { once } = require("node:events");
const http = require("node:http");
const { text } = require("node:stream/consumers");
const { setTimeout: sleep } = require("node:timers/promises");
const { validateRequest } = require("twilio");

const STATES = { pending: "waiting", approved: "signed in", denied: "refused", expired: "timed out" };

/** Starts sign-ins and knows their state, from webhooks or by asking the API. */
class LoginBackend {
  constructor(client, serviceSid) {
    this.service = client.verify.v2.services(serviceSid);
    this.authToken = client.password;
    this.states = new Map();
    // While it is set, the endpoint for webhooks answers 500.
    this.isBroken = false;
    // The time that the endpoint takes before it handles a webhook.
    this.delayMilliseconds = 0;
  }

  async listen() {
    this.http = http.createServer((request, response) => this.receive(request, response)).listen(0, "127.0.0.1");
    await once(this.http, "listening");
    this.url = `http://127.0.0.1:${this.http.address().port}/webhooks`;
  }

  async subscribe() {
    await this.listen();
    await this.service.webhooks.create({
      friendlyName: "sign-ins",
      eventTypes: ["challenge.approved", "challenge.denied"],
      webhookUrl: this.url,
      versionParam: "v2",
    });
  }

  /** Sends a challenge, which expires after five minutes, to the user's phone. Returns the SID of the sign-in. */
  async startLogin(identity, code) {
    const entity = this.service.entities(identity);
    const factor = (await entity.factors.list()).find((factor) => factor.status === "verified");
    const challenge = await entity.challenges.create({
      factorSid: factor.sid,
      "details.message": "Sign in to Example Bank?",
      "details.fields": code ? [{ label: "Code", value: code }] : [],
    });
    this.states.set(challenge.sid, "waiting");
    return challenge.sid;
  }

  /** Returns the state of a sign-in. A webhook may be lost, so the API decides. */
  async state(identity, login) {
    const challenge = await this.service.entities(identity).challenges(login).fetch();
    this.states.set(login, STATES[challenge.status]);
    return this.states.get(login);
  }

  async receive(request, response) {
    const parameters = Object.fromEntries(new URLSearchParams(await text(request)));
    const signature = request.headers["x-twilio-signature"];
    await sleep(this.delayMilliseconds);
    if (this.isBroken) {
      response.statusCode = 500;
    } else if (!validateRequest(this.authToken, signature, this.url, parameters)) {
      response.statusCode = 403;
    } else {
      this.states.set(parameters.challenge_sid, STATES[parameters.type.replace("challenge.", "")]);
      response.statusCode = 204;
    }
    response.end();
  }

  close() {
    this.http?.close();
  }
}

module.exports = { LoginBackend };
