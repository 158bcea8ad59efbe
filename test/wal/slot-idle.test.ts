import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { readGaps } from "../../src/repo/wal.ts";
import { type Cluster, startCluster, testPrograms } from "../support/cluster.ts";
import { lsn, newPlace, openFolder, systemIdOf } from "./stream-support.ts";

const { major } = await testPrograms();
/** Since 18 a server takes WAL from slots that nobody has used for so long, at its next checkpoint. */
const idleMs = 4_000;
const settings: Record<string, string> = major >= 18 ? { idle_replication_slot_timeout: `${idleMs / 1000}s` } : {};

const statusOf = (cluster: Cluster) => cluster.psql("SELECT wal_status FROM pg_replication_slots");

test("the slot of a server on which nothing is written stays in use", async () => {
  await using place = await newPlace();
  await using cluster = await startCluster({ settings });
  await place.configure(cluster.url());
  const streaming = place.stream();
  await place.caughtUp(cluster);
  for (let waitedMs = 0; waitedMs < 3 * idleMs; waitedMs += 1_000) {
    await delay(1_000);
    await cluster.psql("CHECKPOINT");
    expect(await statusOf(cluster)).toBe("reserved");
  }
  await cluster.psql("CREATE TABLE t (n int)");
  await place.caughtUp(cluster);
  expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
  expect(streaming.said()).not.toContain("lost");
}, 120_000);

if (major >= 18) {
  test("a slot that the server gave up as idle is made anew; what was not stored is said, and is a gap", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster({ settings });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url());
    const first = place.stream();
    await place.caughtUp(cluster);
    expect(await first.kill("SIGTERM")).toBe(0);
    const storedTo = lsn((await place.status()).storedLsn ?? "");
    await delay(idleMs + 1_000);
    for (let segment = 0; segment < 3; segment++) {
      await cluster.psql("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
      await cluster.psql("SELECT pg_switch_wal()");
      await cluster.psql("CHECKPOINT");
    }
    expect(await statusOf(cluster)).toBe("lost");
    const second = place.stream();
    await place.caughtUp(cluster);
    expect(await second.kill("SIGTERM"), second.said()).toBe(0);
    const lineage = { instance: "shared", systemId: await systemIdOf(cluster) };
    const [gap, ...more] = await readGaps(await openFolder(place.repository), lineage);
    expect(more).toEqual([]);
    expect(gap?.fromLsn).toBeLessThanOrEqual(storedTo);
    expect(second.said()).toMatch(/slot-lost: WAL of shared from [0-9A-F/]+ to [0-9A-F/]+ on timeline 1 is lost/);
  }, 180_000);
}
