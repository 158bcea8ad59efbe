import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    // They only end what hangs: nothing is measured by them, and a loaded machine with two cores can be ten times slower.
    testTimeout: 180_000,
    hookTimeout: 300_000,
    // Real servers, real networks and kills at moments that the machine chooses: CI looks twice before it refuses a change.
    // What failed the first time is in the log; here, at home, nothing is tried again.
    retry: process.env.CI ? 1 : 0,
    // One more than there are cores where CI runs: much of a test is waiting, for a disk, a server, or a poll.
    maxWorkers: 3,
  },
});
