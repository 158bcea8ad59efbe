import { describe, expect, it } from "vitest";
import type { Setting } from "../../src/postgres/archiving.ts";
import type { SlotHealth } from "../../src/postgres/archiving-health.ts";
import { type ArchivingServer, archivingFindings, type HealthInput, worstLevel } from "../../src/wal/health.ts";
import { archivingLag } from "../../src/wal/status.ts";
import type { StoredLineage } from "../../src/wal/stored-wal.ts";
import type { StreamStatus } from "../../src/wal/stream-status.ts";

const now = new Date("2026-11-21T12:00:00Z");
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000);
const MiB = 1024 ** 2;
const systemId = "7000000000000000001";

function setting(running: string, rest: Partial<Setting> = {}): Setting {
  return { running, context: "sighup", source: "default", pendingRestart: false, byDefault: "", ...rest };
}

const slot: SlotHealth = {
  ...{ name: "pgkit_shared", physical: true, active: false, walStatus: "reserved", restartLsn: "0/5000000" },
  ...{ retainedBytes: 0, safeBytes: undefined, inactiveSince: undefined },
};

interface Sketch {
  method?: "archive" | "stream";
  expected?: Partial<HealthInput["expected"]>;
  settings?: Record<string, Setting>;
  health?: Partial<ArchivingServer["health"]>;
  disk?: ArchivingServer["disk"];
  stored?: Partial<StoredLineage>[];
  streamer?: Partial<StreamStatus>;
}

/** An instance that is archived without fault, but for what a test says. */
function inputOf({ method = "archive", ...sketch }: Sketch = {}): HealthInput {
  const archives = method === "archive";
  const settings: Record<string, Setting> = {
    wal_level: setting("replica"),
    archive_mode: setting(archives ? "on" : "off"),
    archive_command: setting(archives ? "ours" : "(disabled)"),
    archive_timeout: setting("60"),
    wal_segment_size: setting(String(16 * MiB)),
    ...sketch.settings,
  };
  return {
    expected: {
      ...{ instance: "shared", method, slot: "pgkit_shared", archiveCommand: "ours", flushEveryMs: 5000 },
      ...{ warnBytes: 1024 * MiB, alertBytes: 8192 * MiB, warnAfterMs: 300_000, alertAfterMs: 900_000 },
      ...{ rpoMs: undefined, intended: false, ...sketch.expected },
    },
    server: {
      systemId,
      facts: {
        settings: new Map(Object.entries(settings)),
        ...{
          files: [],
          slots: [],
          senders: 0,
          streamers: 0,
          user: "postgres",
          mayReplicate: true,
          notAlterable: [],
          mayReload: true,
        },
      },
      health: {
        ...{ now, inRecovery: false, timeline: 1, currentLsn: "0/5000100", usualWalBytes: 1024 * MiB },
        archiver: { archived: 4, lastArchived: { wal: "W4", at: ago(20) }, failed: 0, lastFailed: undefined },
        waiting: { files: 0, oldestAt: undefined },
        walDir: { files: 4, bytes: 64 * MiB },
        ...{ slots: archives ? [] : [slot], streamers: archives ? 0 : 1, dataDirectory: "/data", unseen: [] },
        ...sketch.health,
      },
      disk: sketch.disk ?? { freeBytes: 50, totalBytes: 100 },
    },
    stored: [{ repository: "s3://b", lineages: (sketch.stored ?? [{}]).map(lineage) }],
    streamer: sketch.streamer && { ...status, ...sketch.streamer },
    now,
  };
}

const status = {
  systemId,
  updatedAt: ago(2).toISOString(),
  state: "streaming",
  troubles: [],
  host: "h",
  pid: 7,
} as const satisfies Partial<StreamStatus> as unknown as StreamStatus;

function lineage(rest: Partial<StoredLineage>): StoredLineage {
  return {
    ...{ systemId, createdAt: "2026-11-20T00:00:00Z", serverVersion: "17.6", recordedGaps: [] },
    timelines: [
      {
        ...{ timeline: 1, fromLsn: "0/1000000", toLsn: "0/5000000", lastFile: "000000010000000000000004" },
        ...{ lastStoredAt: ago(20), segments: 4, storedBytes: 4, missing: [] },
      },
    ],
    baseBackups: [
      {
        id: "base-1",
        timeline: 1,
        startLsn: "0/2000028",
        stoppedAt: "2026-11-20T01:00:00Z",
        startedAt: "2026-11-20T01:00:00Z",
      },
    ],
    ...rest,
  };
}

function problems(sketch: Sketch): string[] {
  return archivingFindings(inputOf(sketch))
    .filter(({ level }) => level !== "ok")
    .map(({ name, level, message }) => `${name} ${level}: ${message}`);
}

const failed = (lastArchived: number | undefined, lastFailed: number) => ({
  archiver: {
    ...{ archived: 4, failed: 3, lastFailed: { wal: "W5", at: ago(lastFailed) } },
    lastArchived: lastArchived === undefined ? undefined : { wal: "W4", at: ago(lastArchived) },
  },
});

describe("what is said of archiving", () => {
  it("is nothing but good where all goes well, by either method", () => {
    expect(problems({})).toEqual([]);
    expect(problems({ method: "stream" })).toEqual([]);
    expect(worstLevel(archivingFindings(inputOf()))).toBe("ok");
  });

  it.each<[string, Sketch, RegExp]>([
    [
      "fails after it worked",
      { health: failed(60, 20) },
      /^archiver alert: archive_command fails: .* the last success was at 2026-11-21T11:59/,
    ],
    ["never worked", { health: failed(undefined, 20) }, /^archiver alert: .* nothing was ever archived/],
  ])("an archiver that %s is an alert from the first failure on", (_, sketch, said) => {
    expect(problems(sketch)).toEqual([expect.stringMatching(said)]);
  });

  it("an archiver that failed and has succeeded since is none", () => {
    expect(problems({ health: failed(20, 60) })).toEqual([]);
  });

  it.each<[string, Sketch, string[]]>([
    ["64 files", { health: { waiting: { files: 64, oldestAt: ago(10) } } }, ["backlog warn"]],
    ["512 files", { health: { waiting: { files: 512, oldestAt: ago(10) } } }, ["backlog alert"]],
    ["one for 5 minutes", { health: { waiting: { files: 1, oldestAt: ago(300) } } }, ["backlog warn"]],
    ["one for 15 minutes", { health: { waiting: { files: 1, oldestAt: ago(900) } } }, ["backlog alert"]],
    ["one just now", { health: { waiting: { files: 1, oldestAt: ago(1) } } }, []],
  ])("%s waiting for the archiver is judged by the thresholds", (_, sketch, levels) => {
    expect(problems(sketch).map((said) => said.split(":")[0])).toEqual(levels);
  });

  it.each<[string, Partial<SlotHealth>, RegExp | undefined]>([
    ["lost", { walStatus: "lost" }, /^slot alert: the slot pgkit_shared has lost WAL/],
    [
      "about to be lost",
      { walStatus: "unreserved", retainedBytes: 90 * MiB, safeBytes: -1 },
      /^slot alert: .*nearly as much as max_slot_wal_keep_size/,
    ],
    ["far behind", { retainedBytes: 2048 * MiB }, /^slot warn: .*2(\.0)? ?GiB/],
    ["too far behind", { retainedBytes: 9000 * MiB }, /^slot alert/],
    ["near", { retainedBytes: 16 * MiB }, undefined],
  ])("a slot that is %s", (_, rest, said) => {
    const found = problems({ method: "stream", health: { slots: [{ ...slot, ...rest }] } });
    expect(found).toEqual(said === undefined ? [] : [expect.stringMatching(said)]);
  });

  it("a slot of others that nobody uses is told when it keeps too much", () => {
    const other = { ...slot, name: "standby", retainedBytes: 2048 * MiB };
    expect(problems({ health: { slots: [other] } })).toEqual([
      expect.stringMatching(/^slot warn: the slot standby, which nobody uses/),
    ]);
    expect(problems({ health: { slots: [{ ...other, active: true }] } })).toEqual([]);
  });

  it.each<[string, Partial<SlotHealth>, number, string]>([
    ["a minute", { inactiveSince: ago(60) }, 60, "streamer warn"],
    ["half an hour", { inactiveSince: ago(1800) }, 20, "streamer alert"],
  ])("a streamer that is away for %s", (_, rest, __, said) => {
    const found = problems({ method: "stream", health: { streamers: 0, slots: [{ ...slot, ...rest }] } });
    expect(found).toEqual([expect.stringMatching(`^${said}: pgkit wal stream is not connected`)]);
  });

  it("on 16 and older, where the server does not say since when, it is judged by what was stored last", () => {
    expect(problems({ method: "stream", health: { streamers: 0 } })[0]).toMatch(/^streamer warn/);
    const [old] = inputOf().stored[0]?.lineages ?? [];
    const timelines = (old?.timelines ?? []).map((each) => ({ ...each, lastStoredAt: ago(3600) }));
    expect(problems({ method: "stream", health: { streamers: 0 }, stored: [{ timelines }] })[0]).toMatch(
      /^streamer alert/,
    );
  });

  it("the lag that the streamer tells counts while it is fresh", () => {
    expect(problems({ method: "stream", streamer: { lagSeconds: 400 } })).toEqual([
      expect.stringMatching(/^slot warn: .*6m 40s/),
    ]);
    const stale = { lagSeconds: 400, updatedAt: ago(600).toISOString() };
    expect(problems({ method: "stream", streamer: stale })).toEqual([]);
    const troubles = [{ where: "s3://b", message: "no route", since: "2026-11-21T11:00:00Z" }];
    expect(problems({ method: "stream", streamer: { troubles } })).toEqual([
      expect.stringMatching(/^streamer warn: .*s3:\/\/b: no route/),
    ]);
  });

  it.each<[number, string[]]>([
    [2000, []],
    [3000, ["wal folder warn"]],
    [9500, ["wal folder alert"]],
  ])("pg_wal of %d MiB where it grows to 1 GiB by itself", (size, levels) => {
    const found = problems({ health: { walDir: { files: 1, bytes: size * MiB } } });
    expect(found.map((said) => said.split(":")[0])).toEqual(levels);
  });

  it("little room on the disk, and that it is not known", () => {
    expect(problems({ disk: { freeBytes: 8, totalBytes: 100 } })[0]).toMatch(/^disk warn/);
    expect(problems({ disk: { freeBytes: 4, totalBytes: 100 } })[0]).toMatch(/^disk alert/);
    const unknown = archivingFindings(inputOf({ disk: { unknown: "/data is not on this machine" } }));
    expect(unknown.find(({ name }) => name === "disk")).toMatchObject({
      level: "ok",
      message: expect.stringContaining("not on this machine"),
    });
  });

  it.each<[string, Sketch, RegExp]>([
    [
      "a restart is pending",
      { settings: { archive_mode: setting("off", { pendingRestart: true }) } },
      /archive_mode is off and waits for a restart/,
    ],
    ["another command", { settings: { archive_command: setting("cp %p /x") } }, /another archive_command: cp %p \/x/],
    ["wal_level", { settings: { wal_level: setting("minimal") } }, /wal_level is minimal/],
    [
      "nothing set up",
      { method: "stream", health: { slots: [], streamers: 0 } },
      /method stream is configured and not set up/,
    ],
  ])("what keeps archiving from being set up is an alert: %s", (_, sketch, said) => {
    expect(problems(sketch)).toContainEqual(expect.stringMatching(said));
  });

  it("where nothing says that it is meant, only that it is not set up, which is no fault", () => {
    const sketch: Sketch = {
      method: "stream",
      stored: [],
      health: { slots: [], streamers: 0 },
      disk: { freeBytes: 1, totalBytes: 100 },
    };
    expect(problems(sketch)).toEqual([]);
    expect(problems({ ...sketch, expected: { intended: true } })).toContainEqual(
      expect.stringMatching(/^archiving alert/),
    );
  });

  it("an objective that the settings cannot hold", () => {
    expect(problems({ expected: { rpoMs: 60_000 } })).toEqual([]);
    expect(problems({ expected: { rpoMs: 30_000 } })).toEqual([
      expect.stringMatching(/^rpo warn: objectives.rpo is 30 s, which cannot be held: archive_timeout is 1m/),
    ]);
    expect(problems({ expected: { rpoMs: 30_000 }, settings: { archive_timeout: setting("0") } })[0]).toMatch(
      /may stay open for ever/,
    );
    expect(problems({ method: "stream", expected: { rpoMs: 2_000 } })).toEqual([
      expect.stringMatching(/^rpo warn: .*archive.flushEvery is 5.0 s/),
    ]);
  });

  it("WAL without a base backup, and WAL that is missing after the newest", () => {
    expect(problems({ stored: [{ baseBackups: [] }] })).toEqual([
      expect.stringMatching(/^base backup alert: there is no base backup/),
    ]);
    const gap = { timeline: 1, reason: "onFull", recordedAt: "2026-11-21T00:00:00Z" };
    const after = [{ ...gap, fromLsn: "0/3000000", toLsn: "0/4000000" }];
    expect(problems({ stored: [{ recordedGaps: after }] })).toEqual([
      expect.stringMatching(/^base backup alert: WAL from 0\/3000000 to 0\/4000000 is missing/),
    ]);
    const before = [{ ...gap, fromLsn: "0/1000000", toLsn: "0/2000000" }];
    expect(problems({ stored: [{ recordedGaps: before }] })).toEqual([]);
  });

  it("WAL of another server only, under the instance's name", () => {
    expect(problems({ stored: [{ systemId: "7000000000000000009" }] })).toEqual([
      expect.stringMatching(
        /^stored wal alert: the server is the system 7000000000000000001, and the WAL in s3:\/\/b is of 7000000000000000009/,
      ),
    ]);
  });

  it("what is stored, also when the server cannot be asked", () => {
    const findings = archivingFindings({ ...inputOf(), server: undefined });
    expect(findings.map(({ name, level }) => `${name} ${level}`)).toEqual(["stored wal ok", "base backup ok"]);
  });
});

describe("the lag", () => {
  it("is from the end of what is stored to where the server is, for as long as something was stored last", () => {
    expect(archivingLag(inputOf())).toEqual({ bytes: 256, seconds: 20 });
    expect(archivingLag(inputOf({ health: { currentLsn: "0/5000000" } }))).toEqual({ bytes: 0, seconds: 0 });
  });

  it("counts what the streamer has stored of the current segment, and the time that it tells", () => {
    const ahead = { slots: [{ ...slot, restartLsn: "0/50000F0" }] };
    expect(archivingLag(inputOf({ method: "stream", health: ahead }))).toEqual({ bytes: 16, seconds: 20 });
    expect(archivingLag(inputOf({ method: "stream", health: ahead, streamer: { lagSeconds: 3 } }))).toEqual({
      bytes: 16,
      seconds: 3,
    });
  });

  it("is not guessed where nothing is stored of this server", () => {
    expect(archivingLag(inputOf({ stored: [{ systemId: "7000000000000000009" }] }))).toBeUndefined();
    expect(archivingLag({ ...inputOf(), server: undefined })).toBeUndefined();
  });
});
