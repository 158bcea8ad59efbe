import { execFile } from "node:child_process";
import { cp, rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { segmentAt, segmentName } from "../../src/lib/lsn.ts";
import { listWal } from "../../src/repo/wal.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { lsn, newPlace, openFolder, type Place, systemIdOf } from "./stream-support.ts";

const segmentBytes = 2 ** 24;

test("a server that is put back to a former history keeps its WAL until that is stored", async () => {
  await using place = await newPlace();
  await using cluster = await startCluster();
  await cluster.psql("CREATE TABLE t (n int)");
  await place.configure(cluster.url());
  const streaming = place.stream();
  await place.caughtUp(cluster);
  await write(cluster, 2);
  await place.caughtUp(cluster);
  await cluster.stop();
  const former = `${cluster.dataDir}.former`;
  await cp(cluster.dataDir, former, { recursive: true, preserveTimestamps: true });
  await ownedAs(cluster, former);
  await promoted(cluster);
  await write(cluster, 8);
  await place.caughtUp(cluster, 60_000);
  expect((await place.status()).timeline).toBe(2);

  streaming.process.kill("SIGSTOP");
  await cluster.stop("immediate");
  await rm(cluster.dataDir, { recursive: true });
  await rename(former, cluster.dataDir);
  await cluster.restart();
  await write(cluster, 5);
  streaming.process.kill("SIGCONT");

  const id = await systemIdOf(cluster);
  for (let looks = 0; looks < 20; looks += (await place.status()).timeline === 1 ? 1 : 0) {
    const kept = lsn(await cluster.psql("SELECT restart_lsn FROM pg_replication_slots"));
    expect(kept, streaming.said()).toBeLessThanOrEqual(await storedTo(place, id, kept));
    await delay(20);
  }
  await place.caughtUp(cluster, 60_000);
  expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
}, 300_000);

async function promoted(cluster: Cluster): Promise<void> {
  const signal = `${cluster.dataDir}/standby.signal`;
  await writeFile(signal, "");
  await ownedAs(cluster, signal);
  await cluster.restart();
  await cluster.psql("SELECT pg_promote()");
}

/** Segments of which each holds little. */
async function write(cluster: Cluster, segments: number): Promise<void> {
  for (let n = 0; n < segments; n++) {
    await cluster.psql(`INSERT INTO t VALUES (${n})`);
    await cluster.psql("SELECT pg_switch_wal()");
  }
}

/** The end of the segment behind the last whole one of timeline 1 that is stored, of which a part may be; at most about `near`. */
async function storedTo(place: Place, systemId: string, near: bigint): Promise<bigint> {
  const names = new Set<string>();
  const repository = await openFolder(place.repository);
  for await (const { name } of listWal(repository, { instance: "shared", systemId }, { timeline: 1 })) names.add(name);
  const isStored = (startLsn: bigint) => names.has(segmentName({ timeline: 1, startLsn }, segmentBytes));
  let start = segmentAt(1, near, segmentBytes).startLsn;
  while (start > 0n && !isStored(start - BigInt(segmentBytes))) start -= BigInt(segmentBytes);
  return start + BigInt(segmentBytes);
}

async function ownedAs({ runAs }: Cluster, path: string): Promise<void> {
  if (runAs !== undefined) await promisify(execFile)("chown", ["-R", `${runAs.uid}:${runAs.gid}`, path]);
}
