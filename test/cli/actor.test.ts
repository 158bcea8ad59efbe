import { userInfo } from "node:os";
import { expect, test } from "vitest";
import { auditActor } from "../../src/cli/actor.ts";

test("the audit record names who is behind the user of the system, and that user", () => {
  const user = userInfo().username;
  expect(auditActor({ env: {} }).who).toBe(user);
  expect(auditActor({ env: { SUDO_USER: "alice" } }).who).toBe(`alice as ${user}`);
  expect(auditActor({ env: { SUDO_USER: "alice", PGKIT_ACTOR: "cronjob/pgkit" } }).who).toBe(
    `cronjob/pgkit as ${user}`,
  );
});
