import { expect, test, vi } from "vitest";
import { printConfig, run } from "./run.ts";

vi.mock("node:os", async (original) => ({
  ...(await original<typeof import("node:os")>()),
  // As Node fails where the uid is in no /etc/passwd, which is so in most containers.
  userInfo: () => {
    throw Object.assign(new Error("uv_os_get_passwd returned ENOENT"), { code: "ERR_SYSTEM_ERROR" });
  },
}));

test("a user without a name, as in a container, connects as postgres", async () => {
  const ran = await run(["print-config", "--json"], { commands: [printConfig], env: { PGHOST: "h" } });
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(ran.stdout).instances.default.url).toContain("user=postgres");
});
