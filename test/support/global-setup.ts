import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/**
 * Starts the keeper of the servers of this run, which starts a server when a test first asks for it, and says where it
 * is in PGKIT_TEST_SERVERS; scripts/test.sh has one for both of its runs.
 */
export async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env["PGKIT_TEST_SERVERS"]) return undefined;
  const keeper = spawn(process.execPath, [fileURLToPath(new URL("keeper.ts", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = await once(keeper.stdout, "data");
  process.env["PGKIT_TEST_SERVERS"] = String(line).trim();
  return async () => {
    delete process.env["PGKIT_TEST_SERVERS"];
    const gone = once(keeper, "exit");
    keeper.stdin.end();
    await gone;
  };
}
