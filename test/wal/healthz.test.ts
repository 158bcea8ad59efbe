import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { streamHealth } from "../../src/wal/stream-health.ts";
import type { StreamStatus } from "../../src/wal/stream-status.ts";
import { run } from "../cli/run.ts";
import { startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { newPlace, type Place } from "./stream-support.ts";

const now = new Date("2026-11-29T12:00:00Z");
const limits = { warnBytes: 1000, alertBytes: 8000, warnAfterMs: 300_000, alertAfterMs: 900_000 };
const fine: StreamStatus = {
  ...({ format: 1, instance: "shared", slot: "pgkit_shared", state: "streaming", systemId: "7" } as const),
  ...{ since: "2026-11-29T11:00:00Z", timeline: 1, serverLsn: "0/3", receivedLsn: "0/3", storedLsn: "0/3" },
  ...{ lagBytes: 0, lagSeconds: 0, retainedBytes: 0, waitingSegments: 0, troubles: [], baseBackupNeeded: false },
  ...{ host: "h", pid: 1, updatedAt: "2026-11-29T11:59:58Z" },
};
const trouble = { where: "s3://b/p", message: "it does not answer", since: "2026-11-29T11:50:00Z" };

/** What a probe asks, with the status, and whether each of the two is content. */
const cases: [string, StreamStatus | undefined, { live: boolean; ready: boolean }, RegExp?][] = [
  ["streams, and nothing is outstanding", fine, { live: true, ready: true }],
  ["is late, but not yet an alert", { ...fine, lagSeconds: 899, retainedBytes: 7999 }, { live: true, ready: true }],
  ["has more outstanding than the alert takes", { ...fine, retainedBytes: 8000 }, { live: true, ready: false }],
  [
    "has had WAL outstanding for too long, as the store is down",
    { ...fine, lagSeconds: 900, troubles: [trouble] },
    { live: true, ready: false },
    /s3:\/\/b\/p: it does not answer/,
  ],
  ["waits for a server that is down", { ...fine, state: "disconnected" }, { live: true, ready: false }],
  ["has begun, and reached nobody yet", { ...fine, state: "starting" }, { live: true, ready: false }],
  ["takes nothing more in, as too much waits", { ...fine, state: "paused" }, { live: true, ready: false }],
  ["hangs: it says nothing any more", { ...fine, updatedAt: "2026-11-29T11:58:59Z" }, { live: false, ready: false }],
  ["is of a status whose time is none", { ...fine, updatedAt: "soon" }, { live: false, ready: false }],
  ["was stopped", { ...fine, state: "stopped" }, { live: false, ready: false }],
  ["never began here", undefined, { live: false, ready: false }],
];

test.each(cases)("a streamer that %s", (_, status, expected, message = /./) => {
  const live = streamHealth("live", status, limits, now);
  const ready = streamHealth("ready", status, limits, now);
  expect({ live: live.healthy, ready: ready.healthy }).toEqual(expected);
  expect(ready.message).toMatch(message);
});

async function probe(place: Place, ...args: string[]) {
  const ran = await run(["healthz", "--config", join(place.folder, "pgkit.yaml"), ...args]);
  return { status: ran.status, said: `${ran.stdout}${ran.stderr}` };
}

test("pgkit healthz: alive while neither store nor server answers, ready when WAL is stored, neither after the end", async () => {
  await using place = await newPlace();
  await using cluster = await startCluster();
  // A file where the repository's folder would be: every attempt to open it fails, until it is a folder.
  const blocked = join(place.folder, "blocked");
  await writeFile(blocked, "");
  await place.configure(cluster.url(), [], [`repository: ${join(blocked, "repository")}`]);
  expect(await probe(place, "--live")).toMatchObject({ status: 40, said: expect.stringContaining("has begun here") });

  const streaming = place.stream();
  await eventually(async () => expect((await place.status()).troubles, streaming.said()).toHaveLength(1));
  const before = await place.status();
  await eventually(async () => expect((await place.status()).updatedAt > before.updatedAt).toBe(true));
  expect(await probe(place, "--live")).toMatchObject({ status: 0 });
  expect(await probe(place)).toMatchObject({ status: 40, said: expect.stringContaining("starting; file:") });

  await rm(blocked);
  await mkdir(blocked);
  await eventually(async () => expect(await probe(place)).toMatchObject({ status: 0 }), 60_000);
  expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
  expect(await probe(place, "--live")).toMatchObject({ status: 40, said: expect.stringContaining("has ended") });
}, 300_000);
