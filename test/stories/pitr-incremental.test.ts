import { expect, test } from "vitest";
import { testPrograms } from "../support/cluster.ts";
import { restoreAndOpen, startPitr } from "./pitr-support.ts";

const { major } = await testPrograms();

test("a chain of incremental backups is put together and recovered to moments behind each link", async () => {
  await using pitr = await startPitr(major < 17 ? {} : { settings: { summarize_wal: "on" } });
  await pitr.write("A");
  const full = await pitr.backUp();
  const b = await pitr.write("B");
  if (major < 17) {
    const { status, stderr } = await pitr.pgkit.run(["backup", "base", "--incremental"]);
    expect(status, stderr).not.toBe(0);
    expect(stderr).toMatch(/17/);
    return;
  }
  const first = await pitr.backUp("--incremental");
  const c = await pitr.write("C");
  const second = await pitr.backUp("--incremental");
  const d = await pitr.write("D");
  await pitr.write("E");
  await pitr.storeAll();
  const results = [];
  for (const moment of [b, c, d]) {
    const { names, json } = await restoreAndOpen(pitr, "--to-time", moment.after);
    results.push([names, json.backup]);
  }
  expect(results).toEqual([
    ["AB", full.id],
    ["ABC", first.id],
    ["ABCD", second.id],
  ]);
}, 180_000);
