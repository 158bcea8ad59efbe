import { expect, test } from "vitest";
import { startStandby } from "../backup/base-support.ts";
import { pgkitFor } from "../support/pgkit.ts";
import { restoreAndOpen, restoreRefused, startPitr } from "./pitr-support.ts";

test("a backup with its WAL inside needs no archive, and goes on with one that begins behind it", async () => {
  await using pitr = await startPitr();
  const { pgkit } = pitr;
  await pitr.write("A");
  const { backups } = await pgkit.json<{ backups: { id: string }[] }>(["backup", "base", "--with-wal"]);
  expect((await restoreAndOpen(pitr)).names).toBe("A");
  expect((await restoreAndOpen(pitr, "--immediate")).names).toBe("A");
  expect((await restoreRefused(pitr, "--to-time", "-1ms")).status).toBe(20);
  const b = await pitr.write("B");
  await pitr.write("C");
  await pitr.storeAll();
  const { names, json } = await restoreAndOpen(pitr, "--to-time", b.after);
  expect([names, json.backup]).toEqual(["AB", backups[0]?.id]);
}, 120_000);

test("a backup of a standby becomes a server of its own at the target", async () => {
  await using pitr = await startPitr({ settings: { full_page_writes: "on" } });
  await using standby = await startStandby(pitr.cluster);
  await pitr.write("A");
  await using pgkit = await pgkitFor({ shared: { cluster: pitr.cluster } });
  const args = ["backup", "base", "--with-wal", "--standby", standby.url];
  await pgkit.json(args);
  const { names, leftovers } = await restoreAndOpen({ ...pitr, pgkit }, "--immediate");
  expect([names, leftovers]).toEqual(["A", []]);
}, 120_000);
