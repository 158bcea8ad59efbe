import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatLsn, parseLsn } from "../../src/lib/lsn.ts";
import type { BaseJson } from "../backup/base-support.ts";
import { type Pitr, restoreAndOpen, restoreRefused, startPitr, type Written } from "./pitr-support.ts";

describe("A before the backup, B, a mark, C: all stored", () => {
  let pitr: Pitr;
  let backup: BaseJson;
  const written: Record<string, Written> = {};
  const at = (name: string): Written => written[name] ?? { xid: "", committedAt: "", after: "", lsn: "" };

  beforeAll(async () => {
    pitr = await startPitr();
    await pitr.write("A");
    backup = await pitr.backUp();
    written.B = await pitr.write("B");
    await pitr.cluster.psql("SELECT pg_create_restore_point('between')");
    written.C = await pitr.write("C");
    written.D = await pitr.write("D");
    await pitr.storeAll();
  }, 300_000);
  afterAll(async () => await pitr[Symbol.asyncDispose]());

  test.each([
    ["a time after B", () => ["--to-time", at("B").after], "AB"],
    ["the microsecond of B's commit", () => ["--to-time", at("B").committedAt], "AB"],
    ["the same, exclusive", () => ["--to-time", at("B").committedAt, "--exclusive"], "A"],
    ["a position after B", () => ["--to-lsn", at("B").lsn], "AB"],
    ["C's transaction", () => ["--to-xid", at("C").xid], "ABC"],
    ["the same, exclusive", () => ["--to-xid", at("C").xid, "--exclusive"], "AB"],
    ["the restore point", () => ["--to-name", "between"], "AB"],
    ["the end of the backup", () => ["--immediate"], "A"],
    ["the latest", () => [], "ABCD"],
    ["the latest, by its name", () => ["--latest"], "ABCD"],
  ])("%s", { timeout: 300_000 }, async (_, args, wanted) => {
    const { names, leftovers, json } = await restoreAndOpen(pitr, ...args());
    expect(names).toBe(wanted);
    expect(leftovers).toEqual([]);
    expect(json).toMatchObject({ backup: backup.id, recovery: "done", reached: { timeline: 2 } });
  });

  test("what was reached is told: the moment of the last transaction that is in it", async () => {
    const { json } = await restoreAndOpen(pitr, "--to-time", at("B").after);
    expect(json.reached.time).toBe(at("B").committedAt);
  });

  test("the time is understood in the zone that is named, and told in both", async () => {
    const [day, time] = [at("B").after.slice(0, 10), at("B").after.slice(11, 26)];
    const { status, stderr, stdout } = await restoreRefused(pitr, "--to-time", `${day} ${time}`, "--dry-run");
    expect(status, stderr).toBe(0);
    expect(stderr).toContain("is read in the time zone UTC");
    const zone = await restoreRefused(pitr, "--to-time", at("B").after, "--dry-run", "--time-zone", "Asia/Kolkata");
    expect(zone.stdout).toMatch(new RegExp(`${at("B").after} \\(.* \\+05:30\\)`));
    expect(stdout).toContain(backup.id);
  });

  test.each([
    ["a moment in the future", () => ["--to-time", "+1h"], 20, /last transaction that is stored.*--latest/s],
    ["a moment before the backup", () => ["--to-time", "-1d"], 20, /lies before the end of the first base backup/],
    ["a timeline that is not there", () => ["--timeline", "7"], 20, /nothing of timeline 7/],
    ["a position that is not stored", () => ["--to-lsn", "FF/0"], 20, /last transaction that is stored/],
    ["two targets", () => ["--immediate", "--to-name", "x"], 2, /--to-name and --immediate/],
    ["exclusive without a target", () => ["--exclusive"], 2, /--exclusive goes with/],
    ["a pause at the end", () => ["--action", "pause"], 2, /always promotes/],
    ["a backup that is not there", () => ["--backup", "base-x"], 10, /no base backup base-x/],
  ])("%s is refused before anything is written", async (_, args, exit, says) => {
    const { status, stderr, files } = await restoreRefused(pitr, "--start", ...args());
    expect([status, files], stderr).toEqual([exit, []]);
    expect(stderr).toMatch(says);
  });

  test("the greatest position that is named as one to restore to is reached, and none behind it is tried", async () => {
    const { stderr } = await restoreRefused(pitr, "--to-lsn", "FF/0");
    const greatest = parseLsn(/record that is stored begins at (\S+)/.exec(stderr)?.[1] ?? "");
    for (const args of [[], ["--exclusive"]]) {
      const behind = await restoreRefused(pitr, "--start", "--to-lsn", formatLsn(greatest + 1n), ...args);
      expect([behind.status, behind.files], behind.stderr).toEqual([20, []]);
      expect((await restoreAndOpen(pitr, "--to-lsn", formatLsn(greatest), ...args)).names).toBe("ABCD");
    }
  });

  test("a restore point that is not stored is not passed over: nothing is opened", async () => {
    const { status, stderr } = await restoreRefused(pitr, "--start", "--to-name", "nowhere");
    expect(status).toBe(20);
    expect(stderr).toContain('recovery ended before the restore point "nowhere"');
  });
});
