import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { newPlace, openFolder, storedWal, systemIdOf } from "./stream-support.ts";

test("a streamer whose folder is full goes on when the repository takes WAL again, and has lost nothing", async () => {
  await using place = await newPlace();
  await using cluster = await startCluster();
  await place.configure(cluster.url());
  const { repository, streamFolder } = place;
  await mkdir(streamFolder);
  // Room for two segments.
  const script = `mount -t tmpfs -o size=40m,mode=700 none ${streamFolder}; exec "$@"`;
  const streaming = place.stream(["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "bash"]);
  const stored = async () => [...(await storedWal(await openFolder(repository), await systemIdOf(cluster))).keys()];
  await eventually(async () => expect((await stored()).length).toBeGreaterThan(0), 60_000);
  await rename(repository, `${repository}.away`);
  await writeFile(repository, "no folder");
  await eventually(async () => {
    await closeSegment(cluster);
    expect(streaming.said()).toMatch(/stream is full: ENOSPC/);
    expect(streaming.said()).toMatch(/stream is full: pg_receivewal .*No space left on device/);
  }, 120_000);
  await rm(repository);
  await rename(`${repository}.away`, repository);
  const last = await closeSegment(cluster);
  await eventually(async () => expect(await stored(), streaming.said()).toContain(last), 120_000);
  const segments = (await stored()).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
  const numbers = segments.map((name) => Number.parseInt(name.slice(16), 16));
  expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
  expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
}, 300_000);

async function closeSegment(cluster: Cluster): Promise<string> {
  await cluster.psql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000000))");
  return await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
}
