import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BaseJson } from "../backup/base-support.ts";
import { eventually } from "../support/eventually.ts";
import { newPlace, openedNames, type Pitr, type Restored, startPitr, type Written } from "./pitr-support.ts";

/** A, the backup, B, C, and a segment for each of some more rows. */
let pitr: Pitr;
let backup: BaseJson;
let b: Written;

beforeAll(async () => {
  pitr = await startPitr();
  await pitr.write("A");
  backup = await pitr.backUp();
  b = await pitr.write("B");
  await pitr.write("C");
  await pitr.storeAll();
  for (const name of ["1", "2", "3", "4", "5", "6"]) {
    await pitr.write(name);
    await pitr.storeAll();
  }
}, 300_000);
afterAll(async () => await pitr[Symbol.asyncDispose]());

const restore = (dataDir: string, ...args: string[]) => ["restore", "--data-dir", dataDir, ...args];

async function start(args: string[], folder: string) {
  const config = join(folder, "pgkit.yaml");
  await writeFile(config, pitr.pgkit.yaml, { mode: 0o600 });
  const program = join(import.meta.dirname, "..", "support", "pgkit-process.ts");
  return spawn(process.execPath, [program, ...args, "--config", config], { stdio: "ignore" });
}

const childrenOf = async (pid: number) =>
  (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").filter(Boolean).map(Number);

/** Of the server there, by the name that it gives it. */
async function processOf(dataDir: string, name: string): Promise<number> {
  const postmaster = Number((await readFile(join(dataDir, "postmaster.pid"), "utf8")).split("\n")[0]);
  for (const pid of await childrenOf(postmaster)) {
    if ((await readFile(`/proc/${pid}/cmdline`, "utf8")).includes(name)) return pid;
  }
  throw new Error(`no ${name} yet`);
}

test("a recovery whose pgkit was killed goes on by the same command, and fetches no base backup", async () => {
  await using place = await newPlace();
  const args = restore(place.dataDir, "--start");
  const child = await start(args, dirname(place.dataDir));
  const exit = once(child, "exit");
  await eventually(async () => {
    // The server has begun to ask for WAL.
    if (!(await readdir(join(place.dataDir, "pg_wal"))).some((name) => /^(RECOVERYXLOG|[0-9A-F]{24})$/.test(name))) {
      throw new Error("not begun");
    }
  }, 120_000);
  child.kill("SIGKILL");
  expect(await exit).toEqual([null, "SIGKILL"]);
  const again = await pitr.pgkit.json<Restored["json"] & { files: { files: number } }>(args);
  expect(again).toMatchObject({ recovery: "done", reached: { timeline: 2 }, files: { files: 0, writtenBytes: 0 } });
  expect(await openedNames(pitr.cluster, place.dataDir)).toBe("123456ABC");
});

test("what was restored without --start is recovered with it; to another target not, and what to do is said", async () => {
  await using place = await newPlace();
  await pitr.pgkit.json(restore(place.dataDir, "--to-time", b.after));
  const without = await pitr.pgkit.run(restore(place.dataDir, "--to-time", b.after));
  expect([without.status, without.stderr]).toEqual([21, expect.stringMatching(/holds this restore already.*--start/s)]);
  const other = await pitr.pgkit.run(restore(place.dataDir, "--to-lsn", b.lsn, "--start"));
  expect([other.status, other.stderr]).toEqual([21, expect.stringMatching(/to another target.*--delta/s)]);
  const recovered = await pitr.pgkit.json(restore(place.dataDir, "--to-time", b.after, "--start"));
  expect(recovered).toMatchObject({ recovery: "done", files: { files: 0 } });
  const ended = await pitr.pgkit.run(restore(place.dataDir, "--to-time", b.after, "--start"));
  expect([ended.status, ended.stderr]).toEqual([21, expect.stringContaining("--delta")]);
  expect(await openedNames(pitr.cluster, place.dataDir)).toBe("AB");
});

test("a server that was killed in the checkpoint that ends its recovery is recovered by the same command", async () => {
  await using place = await newPlace();
  const args = restore(place.dataDir, "--to-time", b.after, "--start");
  await pitr.pgkit.json(restore(place.dataDir, "--to-time", b.after));
  const child = await start(args, dirname(place.dataDir));
  // The checkpoint does not come to its end, so that the server stays as it is just before.
  const checkpointer = await eventually(() => processOf(place.dataDir, "checkpointer"), 120_000);
  process.kill(checkpointer, "SIGSTOP");
  await eventually(async () => expect(await readdir(place.dataDir)).not.toContain("recovery.signal"), 120_000);
  const postmaster = Number((await readFile(join(place.dataDir, "postmaster.pid"), "utf8")).split("\n")[0]);
  for (const pid of [postmaster, ...(await childrenOf(postmaster))]) process.kill(pid, "SIGKILL");
  await once(child, "exit");
  expect(child.exitCode).not.toBe(0);
  const again = await pitr.pgkit.json<Restored["json"]>(args);
  expect(again).toMatchObject({ recovery: "done", files: { files: 0 } });
  expect(await openedNames(pitr.cluster, place.dataDir)).toBe("AB");
});

test("the end of a backup is that of the backup that is there, also when a newer one has come", async () => {
  await using place = await newPlace();
  await pitr.pgkit.json(restore(place.dataDir, "--immediate"));
  await pitr.backUp();
  const newer = await pitr.pgkit.run(restore(place.dataDir, "--immediate", "--start"));
  expect([newer.status, newer.stderr]).toEqual([21, expect.stringMatching(/of another backup.*--backup/s)]);
  const args = restore(place.dataDir, "--immediate", "--start", "--backup", backup.id);
  expect(await pitr.pgkit.json(args)).toMatchObject({ backup: backup.id, recovery: "done", files: { files: 0 } });
  expect(await openedNames(pitr.cluster, place.dataDir)).toBe("A");
});
