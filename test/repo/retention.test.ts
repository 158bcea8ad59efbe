import { describe, expect, it } from "vitest";
import { nameOf, type PrunableBackup, type PruneInput, planPrune } from "../../src/repo/retention.ts";
import type { RetentionRules } from "../../src/repo/retention-rules.ts";

const now = new Date("2026-11-21T12:00:00Z");

function backup(startedAt: string, more: Partial<PrunableBackup> & { systemId?: string } = {}): PrunableBackup {
  const { systemId = "1", ...rest } = more;
  const server = { version: "18.1", systemId };
  return { id: startedAt, instance: "shared", kind: "logical", database: "litellm", startedAt, server, ...rest };
}

function plan(rules: RetentionRules, backups: PrunableBackup[], more: Partial<PruneInput<PrunableBackup>> = {}) {
  return planPrune({
    backups,
    unreadable: [],
    keeps: [],
    leftovers: [],
    policies: new Map([["shared", { logical: rules, base: rules }]]),
    timeZone: "UTC",
    now,
    ...more,
  });
}

/** What is kept, and why, leaving out the reason that each newest one has. */
function kept(rules: RetentionRules, backups: PrunableBackup[], more: Partial<PruneInput<PrunableBackup>> = {}) {
  const entries = plan(rules, backups, more).keep.map(({ backup: { id }, reasons }) => {
    return [id, reasons.filter((reason) => !reason.startsWith("last verified backup")).join(", ")] as const;
  });
  return Object.fromEntries(entries);
}

const pinOf = (id: string, until: string) => ({
  instance: "shared",
  id,
  record: { until, by: "alice", at: "2026-01-01T00:00:00Z" },
});

describe("the rules", () => {
  it("keep everything where none is configured, also of an instance that is not in the configuration", () => {
    const backups = [backup("2020-01-01T00:00:00Z"), backup("2020-01-02T00:00:00Z", { instance: "gone" })];
    expect(plan({}, backups).remove).toEqual([]);
    expect(kept({}, backups)).toMatchObject({ "2020-01-01T00:00:00Z": "no retention is configured" });
  });

  it("keep the last ones", () => {
    const days = ["2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"].map((day) => backup(`${day}T02:00:00Z`));
    expect(kept({ keepLast: 2 }, days)).toEqual({ "2026-11-19T02:00:00Z": "last 2", "2026-11-20T02:00:00Z": "last 2" });
    expect(plan({ keepLast: 2 }, days).remove.map(({ id }) => id)).toEqual([
      "2026-11-17T02:00:00Z",
      "2026-11-18T02:00:00Z",
    ]);
  });

  it("keep the newest of each day, month and year, and count only those with a backup", () => {
    const backups = [
      "2024-02-29T02",
      "2025-12-31T23",
      "2026-11-01T01",
      "2026-11-19T02",
      "2026-11-20T02",
      "2026-11-20T14",
    ];
    const at = (text: string) => `${text}:00:00Z`;
    expect(
      kept(
        { keepDaily: 3, keepMonthly: 2, keepYearly: 3 },
        backups.map((text) => backup(at(text))),
      ),
    ).toEqual({
      [at("2024-02-29T02")]: "yearly 2024",
      [at("2025-12-31T23")]: "monthly 2025-12, yearly 2025",
      [at("2026-11-01T01")]: "daily 2026-11-01",
      [at("2026-11-19T02")]: "daily 2026-11-19",
      [at("2026-11-20T14")]: "daily 2026-11-20, monthly 2026-11, yearly 2026",
    });
  });

  it("count weeks from Monday, in the year of their Thursday", () => {
    const backups = ["2020-12-31", "2021-01-03", "2021-01-04", "2024-12-29", "2024-12-30"].map((day) =>
      backup(`${day}T02:00:00Z`),
    );
    expect(kept({ keepWeekly: 9 }, backups)).toEqual({
      "2021-01-03T02:00:00Z": "weekly 2020-W53",
      "2021-01-04T02:00:00Z": "weekly 2021-W01",
      "2024-12-29T02:00:00Z": "weekly 2024-W52",
      "2024-12-30T02:00:00Z": "weekly 2025-W01",
    });
  });

  it("begin the day where the time zone does, and tell the two hours apart that a clock change repeats", () => {
    const days = [backup("2026-11-19T22:30:00Z"), backup("2026-11-19T23:30:00Z")];
    expect(kept({ keepDaily: 2 }, days, { timeZone: "Europe/Berlin" })).toEqual({
      "2026-11-19T22:30:00Z": "daily 2026-11-19",
      "2026-11-19T23:30:00Z": "daily 2026-11-20",
    });
    const hours = [backup("2026-10-25T00:30:00Z"), backup("2026-10-25T01:30:00Z")];
    expect(kept({ keepHourly: 2 }, hours, { timeZone: "Europe/Berlin" })).toEqual({
      "2026-10-25T00:30:00Z": "hourly 2026-10-25 02:00 +02:00",
      "2026-10-25T01:30:00Z": "hourly 2026-10-25 02:00 +01:00",
    });
  });

  it("keep a window, and the backup that leads to its beginning", () => {
    const backups = ["2026-11-01", "2026-11-06", "2026-11-08", "2026-11-20"].map((day) => backup(`${day}T02:00:00Z`));
    expect(kept({ windowMs: 14 * 86_400_000 }, backups)).toEqual({
      "2026-11-06T02:00:00Z": "beginning of the window 14d",
      "2026-11-08T02:00:00Z": "window 14d",
      "2026-11-20T02:00:00Z": "window 14d",
    });
  });

  it("are refused when they would keep nothing", () => {
    expect(() => plan({ keepLast: 0, windowMs: 0 }, [])).toThrow(expect.objectContaining({ code: "config" }));
    expect(() => plan({ keepLast: 0, keepDaily: 1 }, [])).not.toThrow();
  });

  it("hold for each database, kind and server by itself", () => {
    const old = "2026-01-01T00:00:00Z";
    const others: Partial<PrunableBackup & { systemId: string }>[] = [
      { database: "n8n" },
      { kind: "base", database: undefined } as Partial<PrunableBackup>,
      { systemId: "2" },
      { instance: "other" },
    ];
    for (const [nth, other] of others.entries()) {
      const [olderId, newerId] = [`older ${nth}`, `newer ${nth}`];
      const backups = [backup(old, { ...other, id: olderId }), backup("2026-11-20T00:00:00Z", { id: newerId })];
      expect(plan({ keepLast: 1 }, backups).remove).toEqual([]);
    }
  });
});

describe("whatever the rules", () => {
  const rules = { keepLast: 1 };
  const [a, b, c] = ["2026-11-01T02:00:00Z", "2026-11-02T02:00:00Z", "2026-11-03T02:00:00Z"];

  it("a pin keeps its backup until it ends", () => {
    const keeps = [pinOf(a, "2026-12-01T00:00:00Z"), pinOf(b, "2026-11-21T12:00:00Z")];
    expect(
      kept(
        rules,
        [a, b, c].map((at) => backup(at)),
        { keeps },
      ),
    ).toEqual({
      [a]: "pinned until 2026-12-01T00:00:00Z by alice",
      [c]: "last 1",
    });
  });

  it("a damaged backup pushes out no good one, and is not the last that is left", () => {
    const bad = new Set([nameOf({ instance: "shared", id: c })]);
    expect(
      kept(
        rules,
        [a, b, c].map((at) => backup(at)),
        { bad },
      ),
    ).toEqual({ [b]: "last 1", [c]: "last 1" });
    expect(plan(rules, [backup(c)], { bad }).keep[0]?.reasons).toContain(
      "last backup of shared/litellm, although damaged",
    );
  });

  it("the last good backup is named as such", () => {
    expect(plan(rules, [backup(a), backup(b)]).keep).toEqual([
      { backup: backup(b), reasons: ["last 1", "last verified backup of shared/litellm"] },
    ]);
  });

  it("object lock keeps its backup until it ends", () => {
    const locked = new Map([
      [`shared/${a}`, new Date("2026-12-01T00:00:00Z")],
      [`shared/${b}`, new Date("2026-11-21T11:59:59Z")],
    ]);
    expect(
      kept(
        rules,
        [a, b, c].map((at) => backup(at)),
        { locked },
      ),
    ).toEqual({
      [a]: "under object lock until 2026-12-01T00:00:00Z",
      [c]: "last 1",
    });
  });

  it("a backup from the future is kept, warned of, and pushes no other out", () => {
    const future = "2031-01-01T00:00:00Z";
    const result = plan(
      rules,
      [a, b, future].map((at) => backup(at)),
    );
    expect(result.keep.map(({ backup: { id } }) => id)).toEqual([b, future]);
    expect(result.warnings).toEqual([expect.stringContaining(`shared/${future} started in the future`)]);
  });

  it("what a kept backup builds on is kept, all the way down; else children go before parents", () => {
    const base = (id: string, startedAt: string, parent?: string) => backup(startedAt, { id, kind: "base", parent });
    const chain = [base("full", a), base("incr1", b, "full"), base("incr2", c, "incr1")];
    expect(kept(rules, chain)).toEqual({ full: "parent of incr1", incr1: "parent of incr2", incr2: "last 1" });
    const newer = base("new", "2026-11-20T00:00:00Z");
    expect(plan(rules, [...chain, newer]).remove.map(({ id }) => id)).toEqual(["incr2", "incr1", "full"]);
    const keeps = [pinOf("incr1", "2027-01-01T00:00:00Z")];
    expect(plan(rules, [...chain, newer], { keeps }).remove.map(({ id }) => id)).toEqual(["incr2"]);
  });

  it("base backups stay while a manifest of the instance, perhaps a child's, cannot be read", () => {
    const bases = [a, b].map((at) => backup(at, { kind: "base" }));
    const unreadable = [{ instance: "shared", id: "mystery" }];
    const result = plan(rules, [...bases, backup(a, { id: "l1" }), backup(b, { id: "l2" })], { unreadable });
    expect(result.remove.map(({ id }) => id)).toEqual(["l1"]);
    expect(result.unreadable).toEqual(unreadable);
  });
});

describe("leftovers", () => {
  const leftover = (id: string) => ({ instance: "shared", id, objects: 1, bytes: 1, newestAt: new Date(0) });
  const [a, b] = ["2026-11-01T02:00:00Z", "2026-11-02T02:00:00Z"];

  it("are collected, unless there is a manifest, even one that cannot be read, or a pin", () => {
    const result = plan({ keepLast: 1 }, [backup(a), backup(b)], {
      leftovers: ["gone", a, "unreadable", "pinned", "was-pinned"].map(leftover),
      unreadable: [{ instance: "shared", id: "unreadable" }],
      keeps: [pinOf("pinned", "2027-01-01T00:00:00Z"), pinOf("was-pinned", "2026-01-01T00:00:00Z")],
    });
    expect(result.leftovers.map(({ id }) => id)).toEqual(["gone", "was-pinned"]);
    expect(result.orphanedKeeps).toEqual([]);
  });

  it("of pins are those whose backup is gone", () => {
    const keeps = [pinOf(a, "2027-01-01T00:00:00Z"), pinOf("gone", "2027-01-01T00:00:00Z")];
    expect(plan({}, [backup(a)], { keeps }).orphanedKeeps).toEqual([keeps[1]]);
  });
});
