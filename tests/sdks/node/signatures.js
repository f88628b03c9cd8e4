// Webhook signatures, checked by Twilio's own Node library, as its middleware does.
//
// Standard input is a JSON list of received requests: host, target, form or body, signature, and url if the
// receiver knows its configured URL. The environment has AUTH_TOKEN. Finally it prints "… signatures hold".
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const twilio = require("twilio");

const token = process.env.AUTH_TOKEN;
const calls = JSON.parse(fs.readFileSync(0, "utf8"));

function holds({ host, target, url: configured, form, body, signature }, key = token) {
  const request = {
    protocol: "http",
    originalUrl: target,
    headers: { host },
    header: (name) => (name === "X-Twilio-Signature" ? signature : undefined),
    body: form,
    rawBody: body,
  };
  const url = configured ?? `http://${host}${target}`;
  const verdict =
    body === null
      ? twilio.validateRequest(key, signature, url, form)
      : twilio.validateRequestWithBody(key, signature, url, body);
  assert.strictEqual(twilio.validateExpressRequest(request, key, configured ? { url } : {}), verdict, url);
  return verdict;
}

for (const call of calls) {
  const said = JSON.stringify(call);
  assert(holds(call), said);
  assert(!holds(call, token.replace(/./g, "0")), `another token: ${said}`);
  const elsewhere = { ...call, target: `${call.target}x`, url: call.url && `${call.url}/x` };
  assert(!holds(elsewhere), `another address: ${said}`);
  const other = call.body === null ? { form: { ...call.form, type: "x" } } : { body: `${call.body} ` };
  assert(!holds({ ...call, ...other }), `another value: ${said}`);
}
console.log(`${calls.length} signatures hold`);
