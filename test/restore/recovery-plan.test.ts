import { describe, expect, test } from "vitest";
import { isPgkitError, type PgkitError } from "../../src/lib/errors.ts";
import { parseLsn } from "../../src/lib/lsn.ts";
import { planRecovery, type RecoveryInventory, type RecoveryRequest } from "../../src/restore/recovery-plan.ts";
import { at, base, last, moment, to, toLsn, toTime, wal } from "./recovery-builders.ts";

/** Backups at 100 s and 200 s, WAL of segments 1 to 19 with its last transaction at 300 s. */
const simple: RecoveryInventory = {
  instance: "shared",
  backups: [
    base("one", { start: 2, stop: 2.5, stoppedAt: 100 }),
    base("two", { start: 10, stop: 10.5, stoppedAt: 200 }),
  ],
  wal: [wal({ 1: [[1, 20]] })],
  ends: [last(1, 20, 19.25, 300)],
};

/** The same with segment 14 missing; the last transaction before it is of 240 s. */
const gapped: RecoveryInventory = {
  ...simple,
  wal: [
    wal({
      1: [
        [1, 14],
        [15, 20],
      ],
    }),
  ],
  ends: [last(1, 14, 13.5, 240), last(1, 20, 19.25, 300)],
};

/** Restored to 12.5 (last transaction at 220 s), though timeline 1 went on to 300 s; timeline 2 lives from 400 s to 500 s. */
const promoted: RecoveryInventory = {
  ...simple,
  backups: [...simple.backups, base("three", { timeline: 2, start: 15, stop: 15.5, stoppedAt: 450 })],
  wal: [wal({ 1: [[1, 20]], 2: [[12, 18]] }, { 2: [[1, 12.5]] })],
  ends: [last(1, 20, 19.25, 300), last(1, 12.5, 12.25, 220), last(2, 18, 17.5, 500)],
};

function refusal(inventory: RecoveryInventory, request: RecoveryRequest): PgkitError {
  try {
    planRecovery(inventory, request);
  } catch (error) {
    if (isPgkitError(error)) return error;
    throw error;
  }
  throw new Error("it was planned, and should have been refused");
}

describe("the backup", () => {
  test.each([
    ["latest", to({ type: "latest" }), "two"],
    ["immediate", to({ type: "immediate" }), "two"],
    ["a name, whose place is not known", to({ type: "name", name: "x" }), "two"],
    ["a time right at the end of a backup, which is cut off to the microsecond", to(toTime(200.000001)), "two"],
    ["a time a microsecond earlier", to(toTime(200)), "one"],
    ["a time between", to(toTime(150)), "one"],
    ["the position at which a backup ends", to(toLsn(10.5)), "two"],
    ["one before that", to(toLsn("0/A7FFFFF")), "one"],
    ["the one that is asked for", to(toTime(250), { backup: "one" }), "one"],
  ])("for %s", (_, request, wanted) => {
    expect(planRecovery(simple, request).backup.id).toBe(wanted);
  });

  test("where a clock was set back is the one that ends last in the WAL, and ends before a time by the server's clock", () => {
    const backups = [
      base("later", { start: 10, stop: 10.5, stoppedAt: 50 }),
      base("earlier", { start: 2, stop: 2.5, stoppedAt: 100 }),
    ];
    const inventory = { ...simple, backups, ends: [last(1, 20, 19.25, 200)] };
    for (const target of [{ type: "latest" as const }, toTime(75), toTime(150), toLsn(15)]) {
      expect(planRecovery(inventory, to(target)).backup.id).toBe("later");
    }
    expect(planRecovery(inventory, to(toLsn(5))).backup.id).toBe("earlier");
    expect(refusal(inventory, to(toTime(49))).hint).toContain(moment(50.000001));
  });

  test("the end of a backup that is known to the second alone may be a second later", () => {
    const coarse = base("one", { start: 2, stop: 2.5, stoppedAt: 100 });
    coarse.base.stoppedAt = "2026-11-21T12:01:40Z";
    const inventory = { ...simple, backups: [coarse] };
    expect(refusal(inventory, to(toTime(100.9))).code).toBe("no-backup-for-target");
    expect(planRecovery(inventory, to(toTime(101))).backup.id).toBe("one");
  });

  test("a target before the first one is refused with the earliest moment", () => {
    const error = refusal(simple, to(toTime(99)));
    expect(error.code).toBe("no-backup-for-target");
    expect(error.hint).toContain(moment(100.000001));
    expect(refusal(simple, to(toLsn(1.5))).code).toBe("no-backup-for-target");
  });

  test("one that is asked for and ends after the target is refused", () => {
    expect(refusal(simple, to(toTime(150), { backup: "two" })).code).toBe("no-backup-for-target");
    expect(refusal(simple, to(toTime(150), { backup: "none" })).code).toBe("backup-missing");
  });

  test("no backup at all is told as such", () => {
    expect(refusal({ ...simple, backups: [] }, to({ type: "latest" })).code).toBe("no-backup-for-target");
  });

  test("an incremental one brings its chain; with a link missing the next older one is taken, and that is said", () => {
    const chain = [
      ...simple.backups,
      base("inc", { start: 12, stop: 12.5, stoppedAt: 230 }, { parent: "two" }),
      base("broken", { start: 14, stop: 14.5, stoppedAt: 250 }, { parent: "gone" }),
    ];
    const plan = planRecovery({ ...simple, backups: chain }, to({ type: "latest" }));
    expect(plan.chain.map(({ id }) => id)).toEqual(["two", "inc"]);
    expect([plan.objects, plan.storedBytes, plan.restoredBytes]).toEqual([2, 200, 5000]);
    expect(plan.notes.join()).toContain("gone");
    const asked = refusal({ ...simple, backups: chain }, to({ type: "latest" }, { backup: "broken" }));
    expect([asked.code, asked.message]).toEqual(["backup-missing", expect.stringContaining("gone")]);
  });
});

describe("the WAL", () => {
  test("of a plan is what lies between backup and target", () => {
    const plan = planRecovery(simple, to(toLsn(12.5)));
    expect(plan.wal).toEqual([{ timeline: 1, startLsn: at(10), endLsn: at(13) }]);
    expect([plan.walSegments, plan.walStoredBytes]).toEqual([3, 150]);
    expect(plan.latest).toEqual({ time: moment(300), lsn: at(19.25) });
    expect(planRecovery(simple, to({ type: "immediate" })).walSegments).toBe(1);
  });

  test("a partial segment at the end counts, one that is cut off from it does not", () => {
    const withPartial = (segment: number) => ({
      ...simple,
      wal: [wal({ 1: [[1, 20]] }, {}, { partial: { timeline: 1, segment } })],
      ends: [...simple.ends, last(1, segment + 1, segment + 0.5, 350)],
    });
    expect(planRecovery(withPartial(20), to(toTime(340))).walSegments).toBe(11);
    expect(refusal(withPartial(21), to({ type: "latest" })).code).toBe("wal-gap");
  });

  test("a gap before the target is refused, by the names of the segments and with what can be reached", () => {
    for (const target of [toTime(290), toLsn(16), { type: "latest" as const }]) {
      const error = refusal(gapped, to(target));
      expect(error.code).toBe("wal-gap");
      expect(error.message).toContain("segment 00000001000000000000000E is not");
      expect(error.hint).toContain("--to-lsn 0/D800000");
      expect(error.hint).toContain(moment(240));
    }
  });

  test("a target before the gap is reached, a moment in it is not", () => {
    expect(planRecovery(gapped, to(toTime(239))).walSegments).toBe(4);
    expect(planRecovery(gapped, to(toLsn(13.75))).walSegments).toBe(4);
    expect(refusal(gapped, to(toTime(240))).code).toBe("wal-gap");
    expect(planRecovery(gapped, to(toTime(240, false))).backup.id).toBe("two");
  });

  test("a backup behind the gap is taken for the latest, and named where the target needs an older one", () => {
    const behind = base("behind", { start: 16, stop: 16.5, stoppedAt: 270 });
    const inventory = { ...gapped, backups: [...gapped.backups, behind] };
    expect(planRecovery(inventory, to({ type: "latest" })).backup.id).toBe("behind");
    expect(refusal(inventory, to(toTime(265))).hint).toContain("--backup behind");
  });

  test("a target beyond what is stored is refused with the latest moment, also on the user's clocks", () => {
    const error = refusal(simple, to(toTime(301), { timeZone: "Europe/Berlin" }));
    expect(error.code).toBe("target-not-archived");
    expect(error.message).toContain(`${moment(300)} (2026-11-21 13:05:00 +01:00)`);
    expect(error.hint).toContain("--latest");
    expect(refusal(simple, to(toTime(300))).code).toBe("target-not-archived");
    expect(planRecovery(simple, to(toTime(299.999999))).backup.id).toBe("two");
  });

  test("a position is reached where a record begins at or behind it, and refused behind the last one's beginning", () => {
    const text = "0/13FFFFE0";
    expect(parseLsn(text)).toBe(at(20) - 0x20n);
    expect(planRecovery(simple, to(toLsn(text))).walSegments).toBe(10);
    for (const beyond of [toLsn("0/13FFFFE1"), toLsn(20)]) {
      const error = refusal(simple, to(beyond));
      expect([error.code, error.hint]).toEqual(["target-not-archived", expect.stringContaining(`begins at ${text}`)]);
    }
    expect(refusal(gapped, to(toLsn("0/DFFFFE1"))).code).toBe("wal-gap");
    // That record may begin in the partial segment which is all that follows.
    const streamed = {
      ...simple,
      wal: [wal({ 1: [[1, 20]] }, {}, { partial: { timeline: 1, segment: 20 } })],
      ends: [...simple.ends, { ...last(1, 21), lastRecordLsn: at(20.25) }],
    };
    expect(planRecovery(streamed, to(toLsn(19.75))).walSegments).toBe(11);
    expect(planRecovery(streamed, to(toLsn(20.25))).walSegments).toBe(11);
    expect(refusal(streamed, to(toLsn(20.5))).code).toBe("target-not-archived");
  });

  test("a backup whose own WAL is missing is refused; one that brings its WAL needs no archive", () => {
    const alone = { ...simple, wal: [], ends: [] };
    expect(refusal(alone, to({ type: "latest" })).code).toBe("wal-gap");
    expect(refusal(alone, to({ type: "immediate" })).code).toBe("wal-gap");
    const included = { ...alone, backups: [base("own", { start: 2, stop: 2.5, stoppedAt: 100, walIncluded: true })] };
    const plan = planRecovery(included, to({ type: "latest" }));
    expect([plan.walSegments, plan.latest.lsn, plan.latest.time]).toEqual([0, at(2.5), moment(100.000001)]);
    expect(refusal(included, to(toTime(150))).code).toBe("target-not-archived");
    expect(planRecovery(included, to(toLsn(2.5))).backup.id).toBe("own");
    expect(refusal(included, to(toLsn(2.75))).code).toBe("target-not-archived");
  });

  test("with WAL inside the backup the archive may begin behind it, and no later", () => {
    const own = (fromStandby: boolean, from: number) => ({
      ...simple,
      backups: [base("own", { start: 2, stop: 2.5, stoppedAt: 100, walIncluded: true, fromStandby })],
      wal: [wal({ 1: [[from, 20]] })],
    });
    expect(planRecovery(own(false, 3), to({ type: "latest" })).walSegments).toBe(17);
    expect(refusal(own(false, 4), to({ type: "latest" })).code).toBe("wal-gap");
    expect(refusal(own(true, 3), to({ type: "latest" })).code).toBe("wal-gap");
    expect(planRecovery(own(true, 2), to({ type: "latest" })).walSegments).toBe(18);
  });
});

describe("the timeline", () => {
  test("latest is the newest, by the way through its history", () => {
    const plan = planRecovery(promoted, to({ type: "latest" }, { backup: "two" }));
    expect([plan.timeline, plan.targetTimeline]).toEqual([2, "2"]);
    expect(plan.wal).toEqual([
      { timeline: 1, startLsn: at(10), endLsn: at(12) },
      { timeline: 2, startLsn: at(12), endLsn: at(18) },
    ]);
    expect(planRecovery(promoted, to({ type: "latest" })).backup.id).toBe("three");
  });

  test("a time before the switch and one after it are reached", () => {
    expect(planRecovery(promoted, to(toTime(210))).backup.id).toBe("two");
    expect(planRecovery(promoted, to(toTime(460))).backup.id).toBe("three");
    expect(planRecovery(promoted, to(toTime(420))).backup.id).toBe("two");
  });

  test("a moment or position that both timelines have is asked back", () => {
    for (const target of [toTime(280), toLsn(14)]) {
      const error = refusal(promoted, to(target));
      expect([error.code, error.hint]).toEqual(["usage", expect.stringMatching(/--timeline 1 .*--timeline 2 /)]);
    }
    expect(planRecovery(promoted, to(toTime(280), { timeline: 1 })).timeline).toBe(1);
    expect(planRecovery(promoted, to(toTime(280), { timeline: 2 })).timeline).toBe(2);
  });

  test("an abandoned sibling is asked back for the time in which it lived", () => {
    const twice: RecoveryInventory = {
      ...simple,
      wal: [wal({ 1: [[1, 20]], 2: [[12, 18]], 3: [[14, 19]] }, { 2: [[1, 12.5]], 3: [[1, 14.5]] })],
      ends: [
        ...[last(1, 20, 19.25, 300), last(1, 12.5, 12.25, 220), last(2, 18, 17.5, 500)],
        ...[last(1, 14.5, 14.25, 250), last(3, 19, 18.5, 700)],
      ],
    };
    expect(refusal(twice, to(toTime(450))).message).toContain("timeline 2");
    expect(planRecovery(twice, to(toTime(240))).timeline).toBe(3);
    expect(planRecovery(twice, to(toTime(600))).timeline).toBe(3);
    expect(planRecovery(twice, to(toTime(450), { timeline: 2 })).timeline).toBe(2);
  });

  test("a moment or position behind the end of the newest, that another has, is refused naming that one", () => {
    // Timeline 2 is that of a copy, which was promoted, backed up and left; the instance goes on on timeline 1.
    const copied = { ...promoted, wal: [wal({ 1: [[1, 30]], 2: [[12, 18]] }, { 2: [[1, 12.5]] })] };
    const inventory = { ...copied, ends: [...copied.ends, last(1, 30, 29.5, 900)] };
    for (const target of [toTime(800), toLsn(25)]) {
      const error = refusal(inventory, to(target));
      expect([error.code, error.hint]).toEqual([
        "target-not-archived",
        expect.stringMatching(/^timeline 1 has it: --timeline 1; else --latest/),
      ]);
      expect(refusal(inventory, to(target, { timeline: 2 })).hint).toMatch(/^timeline 1 has it: --timeline 1;/);
      expect(planRecovery(inventory, to(target, { timeline: 1 })).backup.id).toBe("two");
    }
    expect(refusal(inventory, to(toTime(901))).hint).toMatch(/^--latest/);
    const lost = { ...inventory, wal: [wal({ 1: [[1, 30]], 2: [[15, 18]] })] };
    expect(refusal(lost, to(toTime(250))).hint).toMatch(/^timeline 1 has it: --timeline 1;/);
  });

  test("one that the backup is not on is refused, never quietly left for another", () => {
    const error = refusal(promoted, to({ type: "latest" }, { timeline: 1, backup: "three" }));
    expect(error.code).toBe("timeline-unreachable");
    const after = { ...promoted, backups: [base("late", { start: 14, stop: 14.5, stoppedAt: 260 })] };
    expect(refusal(after, to({ type: "latest" }, { timeline: 2 })).code).toBe("timeline-unreachable");
    const plan = planRecovery(after, to({ type: "latest" }));
    expect([plan.timeline, plan.notes.join()]).toEqual([1, expect.stringContaining("timeline 2 is newer")]);
  });

  test("an unknown one is refused with those there are", () => {
    const error = refusal(promoted, to({ type: "latest" }, { timeline: 7 }));
    expect([error.code, error.hint]).toEqual(["timeline-unreachable", "there are: 1, 2"]);
  });

  test("current is that of the backup, also where its history is not stored", () => {
    expect(planRecovery(promoted, to({ type: "latest" }, { timeline: "current", backup: "two" })).timeline).toBe(1);
    const lost = { ...promoted, wal: [wal({ 2: [[12, 18]] })] };
    const plan = planRecovery(lost, to({ type: "latest" }));
    expect([plan.backup.id, plan.timeline, plan.targetTimeline]).toEqual(["three", 2, "current"]);
  });

  test("right after a promotion the segment of the switch may be on the former timeline alone", () => {
    const young = {
      ...simple,
      wal: [wal({ 1: [[1, 12]], 2: [] }, { 2: [[1, 12.5]] }, { partial: { timeline: 1, segment: 12 } })],
      ends: [last(1, 12, 11.5, 215), last(1, 12.5, 12.25, 220), last(1, 13, 12.25, 220)],
    };
    const plan = planRecovery(young, to({ type: "latest" }));
    expect([plan.timeline, plan.walSegments, plan.latest.time]).toEqual([2, 3, moment(220)]);
  });

  test("the WAL of the newer timeline missing right behind the switch is a gap", () => {
    const torn = { ...promoted, wal: [wal({ 1: [[1, 20]], 2: [[13, 18]] }, { 2: [[1, 12.5]] })] };
    const error = refusal(torn, to({ type: "latest" }, { backup: "two" }));
    expect([error.code, error.message]).toEqual(["wal-gap", expect.stringContaining("00000002000000000000000C")]);
  });
});

describe("several servers of one instance", () => {
  const other = "7390000000000000002";
  const two: RecoveryInventory = {
    ...simple,
    backups: [
      ...simple.backups,
      base("new", { start: 2, stop: 2.5, stoppedAt: 1000 }, { server: { version: "17.1", systemId: other } }),
    ],
    wal: [...simple.wal, wal({ 1: [[1, 9]] }, {}, { systemId: other })],
    ends: [...simple.ends, last(1, 9, 8.5, 1100, other)],
  };

  test("the target decides, else the backup, else the newest", () => {
    expect(planRecovery(two, to(toTime(250))).backup.id).toBe("two");
    expect(planRecovery(two, to(toTime(1050))).backup.id).toBe("new");
    expect(planRecovery(two, to({ type: "latest" }, { backup: "one" })).backup.id).toBe("one");
    const plan = planRecovery(two, to({ type: "latest" }));
    expect([plan.backup.id, plan.notes.join()]).toEqual(["new", expect.stringContaining("--system-id")]);
  });

  test("what fits both is asked back, and an unknown id refused", () => {
    const error = refusal(two, to(toLsn(8)));
    expect([error.code, error.message]).toEqual(["usage", expect.stringContaining(other)]);
    expect(planRecovery(two, to(toLsn(8), { systemId: other })).backup.id).toBe("new");
    expect(refusal(two, to(toLsn(8), { systemId: "1" })).code).toBe("usage");
  });
});
