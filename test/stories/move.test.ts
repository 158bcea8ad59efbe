import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type MoveStory, startStory } from "./move-support.ts";

interface MoveJson {
  database: string;
  from: string;
  to: string;
  state: string;
  writeBlockedMs: number;
  steps: { name: string; state: string }[];
  proof: { differences: unknown[]; tables: { rows: number }[] };
}

const databases = (story: MoveStory, side: "source" | "target") =>
  story[side].psql("SELECT datname FROM pg_database WHERE datname LIKE 'litellm%' ORDER BY 1");
const leftovers = async (story: MoveStory, side: "source" | "target") =>
  story[side].psql(
    `SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_subscription) +
       (SELECT count(*) FROM pg_database WHERE datconnlimit = 0)`,
  );

test("an application that writes all the time is moved, moved back, and its old database dropped", async () => {
  await using story = await startStory();
  const { pgkit } = story;
  const writer = story.startWriter();
  await writer.more(20);
  const planned = await pgkit.json<MoveJson>(["move", "litellm", "--to", "dedicated", "--dry-run"]);
  expect(planned.state).toBe("planned");
  expect(await databases(story, "target")).toBe("");
  const moved = await pgkit.json<MoveJson>(["move", "litellm", "--to", "dedicated"]);
  expect(moved).toMatchObject({ database: "litellm", from: "shared", to: "own", state: "switched" });
  expect(moved.proof.differences).toEqual([]);
  expect(moved.writeBlockedMs).toBeLessThan(10_000);
  await writer.more(20);
  await story.expectAll([writer], "target");
  const status = await pgkit.run(["move", "status", "litellm"]);
  expect(status.stdout).toContain("pgkit move rollback litellm");
  const finished = await pgkit.json<MoveJson>(["move", "finish", "litellm", "--yes"]);
  expect(finished.state).toBe("finished");
  expect([await databases(story, "source"), await databases(story, "target")]).toEqual(["", "litellm"]);
  expect([await leftovers(story, "source"), await leftovers(story, "target")]).toEqual(["0", "0"]);
  // And back, as a move of its own.
  const second = story.startWriter("second");
  await second.more(10);
  const back = await pgkit.json<MoveJson>(["move", "litellm", "--to", "shared"]);
  expect(back).toMatchObject({ from: "own", to: "shared", state: "switched" });
  await second.more(10);
  await story.expectAll([writer, second], "source");
  await pgkit.json(["move", "finish", "litellm", "--yes"]);
  expect([await databases(story, "source"), await databases(story, "target")]).toEqual(["litellm", ""]);
}, 240_000);

test("a move is rolled back with every insert, update and delete that was made on the target", async () => {
  await using story = await startStory();
  const { pgkit, source, target } = story;
  const writer = story.startWriter();
  await writer.more(10);
  await pgkit.json(["move", "litellm", "--to", "dedicated"]);
  await writer.more(10);
  await target.psql(
    "UPDATE teams SET name = 'renamed' WHERE id = 1; DELETE FROM audit.entries WHERE team = 5",
    "litellm",
  );
  await target.psql("INSERT INTO teams (name) VALUES ('new')", "litellm");
  const last = await target.psql("SELECT max(id) FROM teams", "litellm");
  const back = await pgkit.json<MoveJson>(["move", "rollback", "litellm"]);
  expect(back.state).toBe("rolled-back");
  await writer.more(10);
  await story.expectAll([writer], "source");
  expect(await source.psql("SELECT name FROM teams WHERE id = 1", "litellm")).toBe("renamed");
  expect(await source.psql("SELECT count(*) FROM audit.entries WHERE team = 5", "litellm")).toBe("0");
  const next = await source.psql("INSERT INTO teams (name) VALUES ('after') RETURNING id", "litellm");
  expect(Number(next.split("\n")[0])).toBeGreaterThan(Number(last));
  expect([await databases(story, "source"), await databases(story, "target")]).toEqual(["litellm", ""]);
  expect([await leftovers(story, "source"), await leftovers(story, "target")]).toEqual(["0", "0"]);
  expect(await target.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'litellm_user'")).toBe("0");
  // It can be moved again as if nothing had been.
  const second = story.startWriter("second");
  await second.more(5);
  expect(await pgkit.json<MoveJson>(["move", "litellm", "--to", "dedicated", "--offline"])).toMatchObject({
    state: "switched",
  });
  const offline = await pgkit.json<MoveJson>(["move", "rollback", "litellm"]);
  expect(offline.state).toBe("rolled-back");
  await second.more(5);
  await story.expectAll([second], "source");
}, 240_000);

test("of two runners of one move the second is refused, and the first goes on", async () => {
  await using story = await startStory();
  const writer = story.startWriter();
  await writer.more(5);
  const first = await story.start(["move", "litellm", "--to", "dedicated", "--json"]);
  await eventually(async () => {
    const held = await story.source.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'");
    if (held === "0") throw new Error("the first has not begun");
  });
  const second = await story.pgkit.run(["move", "litellm", "--to", "dedicated"]);
  expect([second.status, second.stderr]).toEqual([11, expect.stringContaining("another pgkit is moving litellm")]);
  const { status, stdout } = await first.ended;
  expect([status, JSON.parse(stdout).state]).toEqual([0, "switched"]);
  const again = await story.pgkit.run(["move", "litellm", "--to", "dedicated"]);
  expect([again.status, again.stderr]).toEqual([2, expect.stringContaining("is switched already")]);
  await writer.more(5);
  await story.expectAll([writer], "target");
}, 300_000);
