// For `testEnvironment` of Jest: ends each test with its servers stopped, and a failed one with the report.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");
const { endTest } = require("./accounts.js");

/** Returns an environment that does the same on the basis of another one, for example of `jest-environment-jsdom`. */
function withCountersign(Base) {
  return class CountersignEnvironment extends Base {
    async handleTestEvent(event, state) {
      await super.handleTestEvent?.(event, state);
      if (event.name !== "test_done") return;
      const report = await endTest(this.global, event.test.errors.length > 0);
      if (report) event.test.errors.push([Object.assign(new Error(), { message: report, stack: report }), undefined]);
    }
  };
}

// The project's own version, which need not be installed beside this package.
const { TestEnvironment } = createRequire(path.join(process.cwd(), "package.json"))("jest-environment-node");

module.exports = withCountersign(TestEnvironment);
module.exports.TestEnvironment = module.exports;
module.exports.withCountersign = withCountersign;
