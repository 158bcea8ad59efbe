import { beforeAll, expect, test } from "vitest";
import { backUpStep } from "../../src/move/steps/back-up.ts";
import { finalBackupStep } from "../../src/move/steps/final-backup.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { filesPrefix } from "../../src/repo/layout.ts";
import { clustersOfFile } from "./clusters.ts";
import { makeApplication, stepLifecycle, type TestMove, testMove } from "./support.ts";

const clusters = clustersOfFile();
beforeAll(async () => {
  await makeApplication(clusters.source);
});

/** Another move, with the repository of this one. */
async function next({ context }: TestMove, backupMaxAgeMs = 86_400_000): Promise<TestMove> {
  const other = await testMove(clusters, { backupMaxAgeMs });
  return {
    ...other,
    run: async (step) => step.run({ ...other.context, repository: context.repository }, undefined as never),
  };
}

test("a step's promises hold: the backup is taken once, and stays when the move is undone", async () => {
  const move = await testMove(clusters);
  await stepLifecycle(move, backUpStep);
  const { backups } = await listBackups(move.context.repository, {});
  expect(backups).toMatchObject([{ database: "litellm", instance: "shared" }]);
});

test("a fresh backup that can be read back is enough, but for the last one", async () => {
  const move = await testMove(clusters);
  const first = await move.run(backUpStep);
  expect(first.found).toBe(false);
  expect(await (await next(move)).run(backUpStep)).toMatchObject({ id: first.id, found: true });
  expect(await (await next(move, 0)).run(backUpStep)).toMatchObject({ found: false });
  expect(await (await next(move)).run(finalBackupStep)).toMatchObject({ found: false });
});

test("a damaged backup does not count, however fresh", async () => {
  const move = await testMove(clusters);
  const first = await move.run(backUpStep);
  const { store } = move.context.repository;
  for await (const { key } of store.list(filesPrefix))
    if (key.includes("roles")) await store.put(key, Buffer.from("damaged"));
  const again = await (await next(move)).run(backUpStep);
  expect(again.found).toBe(false);
  expect(again.id).not.toBe(first.id);
});
