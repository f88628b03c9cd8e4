// The accounts of the running test. They are kept in its global object, because Jest's environment is a world of its own.
"use strict";

const ACCOUNTS = Symbol.for("countersign.testing.accounts");

function accountsOf(global) {
  return (global[ACCOUNTS] ??= []);
}

/** Ends a test: returns the report of its accounts if it has failed, and stops the servers of its own. */
async function endTest(global, hasFailed) {
  const accounts = accountsOf(global).splice(0);
  const reports = hasFailed ? await Promise.all(accounts.map((account) => account.report())) : [];
  await Promise.all(accounts.filter(({ server }) => !server.isShared).map(({ server }) => server.stop()));
  return reports.join("\n\n");
}

module.exports = { accountsOf, endTest };
