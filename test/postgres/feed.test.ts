import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toolInput } from "../../src/postgres/tools.ts";
import { eventually } from "../support/eventually.ts";
import { childrenNamed } from "../support/processes.ts";

let binDir = "";
const connection = {
  hosts: [{ host: "127.0.0.1", port: 1 }],
  ...{ user: "u", password: undefined, database: "d", sslMode: "disable" as const, parameters: {} },
};

beforeAll(async () => {
  binDir = await mkdtemp(join(tmpdir(), "pgkit-feed-"));
});
afterAll(async () => {
  await rm(binDir, { recursive: true, force: true });
});

/** Runs a shell script as if it were one of PostgreSQL's programs. */
async function feedTo(script: string, input: AsyncIterable<Uint8Array>, options = {}): Promise<string> {
  const path = join(binDir, "feed_me");
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  const programs = { major: 15, version: "15.0", binDir, server: false };
  return toolInput({ programs, connection, database: "d" }, "feed_me", [], input, options);
}

async function* bytes(total: number, ending: () => Promise<void> = async () => undefined) {
  for (let left = total; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(left, 65_536), "x");
  await ending();
}

const gone = () => eventually(async () => expect(await childrenNamed("feed_me")).toEqual([]));

describe("a program that is fed", () => {
  it.each([0, 1, 65_536, 5_000_000])("gets %i bytes and the end of file", async (total) => {
    expect((await feedTo("wc -c", bytes(total))).trim()).toBe(String(total));
  });

  it("and ends well after the last byte, without the end of file, has taken all", async () => {
    expect(await feedTo("head -c 200000 >/dev/null; echo done", bytes(200_000, gone))).toBe("done\n");
  });

  it("and ends before it has read all fails, though it says that all is well", async () => {
    const fed = feedTo("head -c 100000 >/dev/null", bytes(50_000_000));
    await expect(fed).rejects.toMatchObject({
      code: "tool-failed",
      message: expect.stringContaining("before it had read all"),
    });
  });

  it("unless it may", async () => {
    const fed = feedTo("head -c 10; exit 0", bytes(50_000_000), { mayStopReading: true });
    expect(await fed).toBe("xxxxxxxxxx");
  });

  it("and fails is told by its last words, also while the source still waits", async () => {
    const never = () => new Promise<void>(() => undefined);
    const fed = feedTo("head -c 5 >/dev/null; echo 'error: no room' >&2; exit 3", bytes(1000, never));
    await expect(fed).rejects.toMatchObject({ message: expect.stringContaining("exit status 3): error: no room") });
  });

  it("by a source that fails is killed, and that failure is told", async () => {
    const failing = async () => {
      throw new Error("the disk is gone");
    };
    await expect(feedTo("cat >/dev/null; echo done", bytes(1000, failing))).rejects.toThrow("the disk is gone");
    await gone();
  });
});
