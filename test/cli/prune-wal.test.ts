import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { commitBackup } from "../../src/repo/backups.ts";
import { createLineage, listWal, putWal } from "../../src/repo/wal.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { baseOf, nameAt, range, segmentBytes } from "../repo/wal-support.ts";
import { run } from "./run.ts";

const lineage = { instance: "shared", systemId: "7000000000000000001" };

/** Two base backups, of which one is to go, and the WAL of both. */
async function setUp() {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
  const repository = await repositoryIn(fileStore({ path: folder }));
  await createLineage(repository, { ...lineage, segmentBytes, serverVersion: "17.2" }, systemClock);
  for (const segment of range(1, 9)) await putWal(repository, lineage, nameAt(1, segment), Buffer.from(`${segment}`));
  for (const backup of [baseOf({ id: "base-1", start: 2 }), baseOf({ id: "base-2", start: 6 })]) {
    await commitBackup(repository, { ...backup, repository: repository.id, files: [] });
  }
  const yaml = [
    `repository: ${folder}`,
    "instances:",
    "  shared:",
    "    url: postgresql://postgres@localhost/postgres",
    "    retention: { base: { keepLast: 1 } }",
    "",
  ].join("\n");
  const pgkit = (...args: string[]) => run(args, { files: { "pgkit.yaml": yaml } });
  const stored = async () => {
    const names: string[] = [];
    for await (const { name } of listWal(repository, lineage)) names.push(name);
    return names;
  };
  return { pgkit, stored };
}

it("pgkit prune says what happens to the WAL before it does just that", async () => {
  const { pgkit, stored } = await setUp();
  const { stdout } = await pgkit("prune", "--dry-run");
  expect(stdout).toMatch(/WAL of shared\/7000000000000000001: keep 4 files \(.*\), remove 5 files \(.*\)\n/);
  expect(stdout).toMatch(/to remove: 1 backup \(.*\), 5 WAL files \(.*\)/);
  expect(await stored()).toHaveLength(9);
  const done = await pgkit("prune", "--yes", "--json");
  expect(done.status, done.stderr).toBe(0);
  const [repository] = (JSON.parse(done.stdout) as { repositories: Record<string, unknown>[] }).repositories;
  expect(repository).toMatchObject({
    wal: [{ ...lineage, keep: 4, remove: { length: 5 } }],
    result: { wal: [{ ...lineage, files: 5 }] },
  });
  expect(await stored()).toEqual(range(6, 9).map((segment) => nameAt(1, segment)));
  expect((await pgkit("prune", "--yes")).stdout).toContain("nothing to remove");
});

it("a pinned base backup keeps the WAL that makes it consistent", async () => {
  const { pgkit, stored } = await setUp();
  expect((await pgkit("keep", "base-1", "--forever")).status).toBe(0);
  expect((await pgkit("prune", "--yes")).status).toBe(0);
  expect(await stored()).toEqual([2, 6, 7, 8, 9].map((segment) => nameAt(1, segment)));
});
