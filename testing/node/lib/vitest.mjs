// For `setupFiles` of Vitest: ends each test with its servers stopped, and a failed one with the report.
import { afterEach } from "vitest";
import accounts from "./accounts.js";

afterEach(async ({ task }) => {
  const report = await accounts.endTest(globalThis, task.result?.state === "fail");
  if (report) task.result.errors.push({ name: "Countersign", message: report, stack: `Countersign: ${report}` });
});
