import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { repositoryIn, storeBackup } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { checked, instanceOn, repositoryOf } from "./support.ts";

let cluster: Cluster;
let systemId: string;

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("CREATE DATABASE app");
  systemId = await cluster.psql("SELECT system_identifier FROM pg_control_system()");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

const hourMs = 3_600_000;
const nightly = { logical: "0 2 * * *", timeZone: "UTC", graceMs: hourMs };
/** Four in the morning: the run of two o'clock has had its hour of grace. */
const clock = { ...systemClock, now: () => new Date("2026-11-21T04:00:00Z") };

/** Backups of `app` and `postgres` started at these times; both are what the server has. */
async function storeWith(starts: { app?: string; postgres?: string }, id = systemId) {
  const store = memoryStore();
  const repository = await repositoryIn(store);
  for (const [database, startedAt] of Object.entries(starts)) {
    await storeBackup(repository, { id: `${database}-1`, database, startedAt, systemId: id });
  }
  return store;
}

async function overdueIn(
  starts: { app?: string; postgres?: string },
  schedule: { logical: string | undefined; timeZone: string; graceMs: number } = nightly,
) {
  const repositories = [repositoryOf(await storeWith(starts))];
  return await checked({ instances: [instanceOn(cluster, { schedule })], repositories, clock });
}

describe("pgkit check of backups", () => {
  it("is content when every database has what its schedule asks for", async () => {
    const result = await overdueIn({ app: "2026-11-21T02:00:10Z", postgres: "2026-11-21T02:01:00Z" });
    expect(result.of("overdue")).toMatchObject([
      { level: "ok", message: expect.stringContaining("all of 2 database(s)") },
    ]);
    expect(result.of("schedule")).toMatchObject([
      { level: "ok", message: expect.stringContaining("next run is at 2026-11-22") },
    ]);
    expect(result.status).toBe(0);
  });

  it("names the one database whose backup is overdue, with the command that makes it", async () => {
    const result = await overdueIn({ app: "2026-11-18T02:00:10Z", postgres: "2026-11-21T02:01:00Z" });
    expect(result.of("overdue", "database shared/app")).toMatchObject([
      {
        level: "error",
        message: expect.stringMatching(/no run of 2026-11-19.* the newest backup is 3d 1h old/),
        remedy: expect.stringContaining("pgkit backup logical app --instance shared"),
      },
    ]);
    expect(result.of("overdue", "database shared/postgres")).toEqual([]);
    expect(result.status).toBe(40);
  });

  it("warns of a database without any backup, and in one line where there is none at all", async () => {
    const one = await overdueIn({ postgres: "2026-11-21T02:01:00Z" });
    expect(one.of("overdue", "database shared/app")).toMatchObject([{ level: "warning" }]);
    expect(one.status).toBe(0);
    const none = await overdueIn({});
    expect(none.of("overdue")).toMatchObject([{ level: "warning", remedy: "pgkit backup logical --instance shared" }]);
    expect(none.status).toBe(0);
  });

  it("calls nothing overdue without a schedule, and a schedule that is none an error", async () => {
    const none = await overdueIn(
      { app: "2026-01-01T02:00:10Z", postgres: "2026-01-01T02:00:10Z" },
      { ...nightly, logical: undefined },
    );
    expect(none.of("overdue")).toMatchObject([{ level: "ok" }]);
    const bad = await overdueIn({ app: "2026-01-01T02:00:10Z" }, { ...nightly, logical: "0 25 * * *" });
    expect(bad.of("schedule")).toMatchObject([{ level: "error", code: "config" }]);
  });

  it("looks at each repository for itself: one that got nothing lately is told of though the other is well", async () => {
    const fresh = await storeWith({ app: "2026-11-21T02:00:10Z", postgres: "2026-11-21T02:00:10Z" });
    const stale = await storeWith({ app: "2026-11-01T02:00:10Z", postgres: "2026-11-21T02:00:10Z" });
    const repositories = [repositoryOf(fresh, { url: "s3://a" }), repositoryOf(stale, { url: "s3://b" })];
    const result = await checked({ instances: [instanceOn(cluster, { schedule: nightly })], repositories, clock });
    expect(result.of("overdue", "database shared/app")).toMatchObject([
      { message: expect.stringContaining("overdue in s3://b") },
    ]);
  });

  it("still tells what is overdue when the server does not answer", async () => {
    const connection = () => Promise.reject(new PgkitError("config", "the variable X is not set"));
    const repositories = [repositoryOf(await storeWith({ app: "2026-11-18T02:00:10Z" }))];
    const instances = [instanceOn(cluster, { schedule: nightly, connection })];
    const result = await checked({ instances, repositories, clock });
    expect(result.of("overdue")).toMatchObject([{ level: "error", subject: "backups of shared" }]);
  });

  it("says when another cluster answers to an instance's name", async () => {
    const starts = { app: "2026-11-21T02:00:10Z", postgres: "2026-11-21T02:00:10Z" };
    const find = async (id: string) => {
      const repositories = [repositoryOf(await storeWith(starts, id))];
      return (await checked({ instances: [instanceOn(cluster)], repositories, clock })).of("system id");
    };
    expect(await find(systemId)).toMatchObject([{ level: "ok" }]);
    expect(await find("7000000000000000001")).toMatchObject([
      { level: "warning", message: expect.stringContaining(systemId), remedy: expect.stringContaining("upgraded") },
    ]);
  });

  it("notes that without retention nothing is ever removed", async () => {
    const rules = async (logical: { keepLast?: number; windowMs?: number }) =>
      (await checked({ instances: [instanceOn(cluster, { retention: { logical, base: {} } })] })).of("retention");
    expect(await rules({})).toMatchObject([
      { level: "ok", message: expect.stringContaining("nothing is ever removed") },
    ]);
    expect(await rules({ keepLast: 3, windowMs: 86_400_000 })).toMatchObject([{ message: "keepLast 3, window 1d" }]);
  });
});
