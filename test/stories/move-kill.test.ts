import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type MoveStory, startStory } from "./move-support.ts";

/** Kills pgkit as soon as the nth record of the newest move is there; false when it ended before. */
async function killAtRecord(story: MoveStory, args: readonly string[], nth: number): Promise<boolean> {
  const before = new Set(await records(story));
  const started = await story.start(args);
  let ended = false;
  void started.ended.then(() => {
    ended = true;
  });
  for (;;) {
    const written = (await records(story)).filter((key) => !before.has(key)).length;
    if (ended) return false;
    if (written >= nth) break;
    await new Promise((resolve) => setImmediate(resolve));
  }
  started.child.kill("SIGKILL");
  await started.ended;
  return true;
}

async function records({ pgkit }: MoveStory): Promise<string[]> {
  const names = await readdir(join(pgkit.repository, "moves"), { recursive: true }).catch((error) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return names.filter((name) => /\d{6}\.json$/.test(name));
}

test("killed after any of its records, a move lets the application write again, is resumed, and is rolled back", async () => {
  await using story = await startStory();
  const writers = [story.startWriter()];
  const [writer] = writers;
  await writer?.more(5);
  let rounds = 0;
  for (let nth = 1; ; nth += 3) {
    const killed = await killAtRecord(story, ["move", "litellm", "--to", "dedicated", "--max-block", "5s"], nth);
    // Nobody has done anything, and the application works.
    await writer?.more(2, 20_000);
    const resumed = killed ? await untilUnlocked(story, ["move", "resume", "litellm", "--json"]) : undefined;
    if (killed) expect([nth, resumed?.status, resumed?.stderr]).toEqual([nth, 0, expect.any(String)]);
    await writer?.more(2);
    const back = await killAtRecord(story, ["move", "rollback", "litellm"], 1 + ((nth * 7) % 20));
    await writer?.more(2, 20_000);
    if (back) {
      const rolledBack = await untilUnlocked(story, ["move", "rollback", "litellm", "--json"]);
      // Killed after its last record it was done.
      const status = await story.pgkit.json<{ state: string }>(["move", "status", "litellm"]);
      expect([nth, rolledBack.stderr, status.state]).toEqual([nth, expect.any(String), "rolled-back"]);
    }
    rounds++;
    if (!killed) break;
  }
  expect(rounds).toBeGreaterThan(8);
  await story.expectAll(writers, "source");
  expect(await story.target.psql("SELECT count(*) FROM pg_database WHERE datname = 'litellm'")).toBe("0");
}, 600_000);

/** The guard of the killed run may be at work. */
async function untilUnlocked(story: MoveStory, args: readonly string[]) {
  return await eventually(async () => {
    const ran = await story.pgkit.run(args);
    if (ran.status === 11) throw new Error(ran.stderr);
    return ran;
  }, 30_000);
}
