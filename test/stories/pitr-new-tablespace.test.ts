import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newPlace, type Pitr, startPitr, type Written } from "./pitr-support.ts";

const run = promisify(execFile);

/** The backup, A, A2, a tablespace made after it on this very machine, with a table in it, and B. */
let pitr: Pitr;
let a: Written;

beforeAll(async () => {
  pitr = await startPitr();
  const { cluster } = pitr;
  await pitr.backUp();
  a = await pitr.write("A");
  // Recovery to a moment ends only at a transaction that ended after it.
  await pitr.write("A2");
  const space = join(dirname(cluster.dataDir), "made-later");
  await mkdir(space);
  if (cluster.runAs !== undefined) await run("chown", [`${cluster.runAs.uid}:${cluster.runAs.gid}`, space]);
  await cluster.psql(`CREATE TABLESPACE later LOCATION '${space}'`);
  await cluster.psql("CREATE TABLE living TABLESPACE later AS SELECT generate_series(1, 1000) AS id");
  await pitr.write("B");
  await cluster.psql("CHECKPOINT");
  await pitr.storeAll();
}, 300_000);
afterAll(async () => await pitr[Symbol.asyncDispose]());

test("a recovery beside the living server does not empty a tablespace that was made after the backup", async () => {
  await using place = await newPlace();
  const { status, stderr } = await pitr.pgkit.run(["restore", "--data-dir", place.dataDir, "--start"]);
  expect(stderr).toMatch(/a tablespace was made in .*made-later after base-.* and that folder has files here/);
  expect(status).toBe(21);
  // From the disk: what is cached would hide that the files are gone.
  await pitr.cluster.restart();
  expect(await pitr.cluster.psql("SELECT count(*) FROM living")).toBe("1000");
});

test("a moment before it was made is restored all the same", async () => {
  await using place = await newPlace();
  const args = ["restore", "--data-dir", place.dataDir, "--to-time", a.after, "--start"];
  const { status, stderr } = await pitr.pgkit.run(args);
  expect(status, stderr).toBe(0);
  expect(await pitr.cluster.psql("SELECT count(*) FROM living")).toBe("1000");
});
