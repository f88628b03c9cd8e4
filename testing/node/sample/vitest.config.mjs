export default {
  test: {
    globals: true,
    globalSetup: "@countersign/testing/global-setup",
    setupFiles: "@countersign/testing/vitest",
    include: ["*.test.js"],
  },
};
