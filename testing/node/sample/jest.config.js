module.exports = {
  globalSetup: "@countersign/testing/global-setup",
  globalTeardown: "@countersign/testing/global-teardown",
  testEnvironment: "@countersign/testing/jest",
};
