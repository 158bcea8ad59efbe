import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { createLineage, type LineageFacts, putPartial, putWal } from "../../src/repo/wal.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { fetchFrom, fetchWal } from "../../src/wal/fetch.ts";
import { type Prefetcher, type PrefetchRequest, prefetcher } from "../../src/wal/prefetch.ts";
import { spoolRestoreCommand } from "../../src/wal/prefetch-command.ts";
import { repositoryIn } from "../repo/support.ts";
import { eventually } from "../support/eventually.ts";
import { made, nameOf, segmentBytes, systemId } from "./made.ts";

let repository: Repository;
let lineage: LineageFacts;
beforeEach(async () => {
  repository = await repositoryIn(memoryStore());
  lineage = await newLineage(repository);
});

function newLineage(where: Repository): Promise<LineageFacts> {
  return createLineage(where, { instance: "main", systemId, segmentBytes, serverVersion: "15" }, systemClock);
}
const put = (number: number, where = repository) => putWal(where, lineage, nameOf(number), made(nameOf(number)));
const source = (where: Repository, knows = true) => ({
  where: where.where,
  open: async () => (knows ? { repository: where, lineage } : undefined),
});

describe("a WAL file is absent only where that is proven", () => {
  test("past the end, and of a timeline that never was", async () => {
    await put(1);
    expect(await fetchWal(repository, lineage, nameOf(1))).toEqual(made(nameOf(1)));
    expect(await fetchWal(repository, lineage, nameOf(2))).toBeUndefined();
    expect(await fetchWal(repository, lineage, "00000002.history")).toBeUndefined();
  });

  test("a segment before a later one of its timeline is a gap", async () => {
    await put(1);
    await put(3);
    const clock = { ...systemClock, now: () => new Date(Date.now() + 3_600_000) };
    await expect(fetchWal(repository, lineage, nameOf(2), { clock })).rejects.toMatchObject({ code: "wal-gap" });
  });

  test("one that was overtaken by the next is waited for", async () => {
    await put(3);
    const fetched = fetchWal(repository, lineage, nameOf(2));
    await put(2);
    expect(await fetched).toEqual(made(nameOf(2)));
  });

  test("the partial segment at the end is given as a whole one", async () => {
    const content = made(nameOf(2)).subarray(0, 300_000);
    await putPartial(repository, lineage, nameOf(2), content);
    const whole = await fetchWal(repository, lineage, nameOf(2));
    expect(whole).toEqual(Buffer.concat([content], segmentBytes));
  });

  test("not where a repository does not answer, or none knows the server", async () => {
    const broken = { ...repository, store: faultyStore(repository.store, [{ call: 1, times: 99, does: "fail" }]) };
    const other = await repositoryIn(memoryStore());
    await newLineage(other);
    await expect(fetchFrom([source(broken), source(other)], nameOf(1))).rejects.toMatchObject({ code: "store-failed" });
    await expect(fetchFrom([source(other, false)], nameOf(1))).rejects.toMatchObject({ code: "system-mismatch" });
    await put(1, other);
    expect(await fetchFrom([source(broken), source(other)], nameOf(1))).toEqual(made(nameOf(1)));
  });

  test("a segment under another's name is refused", async () => {
    await putWal(repository, lineage, nameOf(1), made(nameOf(5)));
    await expect(fetchWal(repository, lineage, nameOf(1))).rejects.toMatchObject({
      code: "wal-invalid",
      message: expect.stringContaining(`00000001/${nameOf(1)}.zst`),
    });
  });
});

describe("a recovery that is fed", () => {
  let dataDir: string;
  let folder: string;
  let feeding: Prefetcher | undefined;
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "pgkit feed 100%-"));
    folder = join(dataDir, "pg_wal", "feed");
    await mkdir(folder, { recursive: true });
    await mkdir(join(dataDir, "pg_wal", "archive_status"));
  });
  afterEach(async () => {
    await feeding?.stop();
    await rm(dataDir, { recursive: true, force: true });
  });

  const feed = async (
    fetch: PrefetchRequest["fetch"] = (name) => fetchWal(repository, lineage, name),
    takesBack = false,
  ) => {
    const path = [{ timeline: 1, startLsn: BigInt(segmentBytes), endLsn: BigInt(7 * segmentBytes) }];
    const signal = new AbortController().signal;
    const common = { clock: systemClock, report: () => undefined, signal, patienceMs: 0 };
    const places = { folder, walDir: join(dataDir, "pg_wal") };
    feeding = await prefetcher({ ...common, ...places, fetch, path, segmentBytes, parallel: 2, ahead: 3, takesBack });
    return feeding;
  };
  /** As PostgreSQL runs it; gives its exit status, and "placed" where it says that the segment is in pg_wal. */
  const restore = (name: string) => {
    const command = spoolRestoreCommand(folder).replaceAll("%f", name).replaceAll("%p", "pg_wal/RECOVERYXLOG");
    return promisify(execFile)("/bin/sh", ["-c", command.replaceAll("%%", "%")], { cwd: dataDir }).then(
      () => 0,
      ({ code, stderr }) => (code === 1 && stderr.includes(`restored log file "${name}"`) ? "placed" : Number(code)),
    );
  };
  const inWal = (name: string) => readFile(join(dataDir, "pg_wal", name));
  const segments = async (dir = join(dataDir, "pg_wal")) =>
    (await readdir(dir)).filter((name) => /^[0-9A-F]{24}/.test(name)).sort();

  test("finds each segment, and the end where it is proven, also twice", async () => {
    for (let number = 1; number <= 8; number++) await put(number);
    await feed();
    for (let number = 1; number <= 8; number++) {
      expect(await restore(nameOf(number))).toBe("placed");
      expect(await inWal(nameOf(number))).toEqual(made(nameOf(number)));
    }
    expect(await restore("00000002.history")).toBe(1);
    expect(await restore(nameOf(9))).toBe(1);
    await put(9);
    expect(await restore(nameOf(9))).toBe("placed");
    expect(await restore(nameOf(3))).toBe("placed");
    expect(feeding?.failure).toBeUndefined();
  });

  test("takes out of pg_wal what was read and left behind, and gives it again when it is asked for", async () => {
    for (let number = 1; number <= 8; number++) await put(number);
    await feed(undefined, true);
    const left = [4, 5, 6].map((number) => nameOf(number));
    for (let number = 1; number <= 6; number++) {
      expect(await restore(nameOf(number))).toBe("placed");
      expect(await inWal(nameOf(number))).toEqual(made(nameOf(number)));
    }
    await eventually(async () => expect(await segments()).toEqual(left));
    expect(await segments(join(dataDir, "pg_wal", "archive_status"))).toEqual(left.map((name) => `${name}.done`));
    for (const number of [2, 7, 1, 8]) {
      expect(await restore(nameOf(number))).toBe("placed");
      expect(await inWal(nameOf(number))).toEqual(made(nameOf(number)));
    }
    expect(feeding?.failure).toBeUndefined();
  });

  test("gives a file of another kind as it is asked for", async () => {
    const history = Buffer.from("1\t0/3000000\tno recovery target specified\n");
    await putWal(repository, lineage, "00000002.history", history);
    await feed();
    expect(await restore("00000002.history")).toBe(0);
    expect(await inWal("RECOVERYXLOG")).toEqual(history);
  });

  test("keeps no more ready than it was told, and removes what was not taken", async () => {
    for (let number = 1; number <= 8; number++) await put(number);
    const { stop } = await feed();
    expect(await restore(nameOf(1))).toBe("placed");
    const all = [nameOf(1), nameOf(2), nameOf(3), nameOf(4)];
    await eventually(async () => expect(await segments(folder)).toEqual(all.slice(1).map((name) => `${name}.placed`)));
    expect(await segments()).toEqual(all);
    // A file that is asked for now is answered after another look at what is to be fetched ahead.
    expect(await restore("00000002.history")).toBe(1);
    expect(await segments()).toEqual(all);
    await stop();
    expect(await segments()).toEqual([nameOf(1)]);
    expect(await segments(join(dataDir, "pg_wal", "archive_status"))).toEqual([`${nameOf(1)}.done`]);
  });

  test("stops, and does not end short, when a segment that was laid into pg_wal is gone", async () => {
    await put(1);
    await feed();
    await eventually(async () => expect(await segments(folder)).toEqual([`${nameOf(1)}.placed`]));
    await rm(join(dataDir, "pg_wal", nameOf(1)));
    expect(await restore(nameOf(1))).toBe(200);
  });

  test("stops, and does not end short, when a file cannot be had", async () => {
    await put(1);
    await feed(async () => {
      throw new Error("no");
    });
    expect(await restore(nameOf(1))).toBe(200);
    expect(feeding?.failure).toMatchObject({ message: "no" });
  });

  test("stops, and does not end short, when pgkit ends while it waits, or has ended", async () => {
    const pgkit = await feed((_, signal) => systemClock.delay(600_000, signal).then(() => undefined));
    const waiting = restore(nameOf(1));
    await eventually(async () => expect(await readdir(folder)).toContain(`${nameOf(1)}.want`));
    await pgkit.stop();
    expect(await waiting).toBe(200);
    expect(await restore(nameOf(1))).toBe(200);
  });
});
