import { backupBase } from "../backup/base.ts";
import { formatBytes } from "../lib/parse.ts";
import { withSession } from "../postgres/session.ts";
import type { Manifest } from "../repo/manifest.ts";
import { listLineages, listWal } from "../repo/wal.ts";
import { carryOutEnable, prepareEnable } from "../wal/enable.ts";
import { streamWal } from "../wal/stream.ts";
import { backUpInto, type DemoWorld, demoInstance, leaseOf, notProven } from "./world.ts";

const slot = "pgkit";
const gib = 1024 ** 3;
const minuteMs = 60_000;

/**
 * Runs `use` while the server's WAL is streamed into the repository, as `pgkit pitr enable` and `pgkit wal stream` have it,
 * in this process: nothing of it needs a folder or a program that the server's user could reach.
 */
export async function withArchiving<Result>(
  world: DemoWorld,
  use: (world: DemoWorld) => Promise<Result>,
): Promise<Result> {
  await enable(world);
  const [stop, failed] = [new AbortController(), new AbortController()];
  const stream = streamWal(streamRequest(world), AbortSignal.any([world.signal, stop.signal]));
  stream.catch((error: unknown) => failed.abort(error));
  try {
    const archived = { ...world, signal: AbortSignal.any([world.signal, failed.signal]) };
    await untilFirstStored(archived);
    return await use(archived);
  } finally {
    stop.abort();
    await Promise.allSettled([stream]);
  }
}

async function enable({ repository, connection, clock, signal }: DemoWorld): Promise<void> {
  await withSession(connection, { applicationName: "pgkit demo", signal }, async (session) => {
    const asked = {
      ...{ instance: demoInstance, method: "stream" as const, slot, timeoutMs: minuteMs },
      ...{ archiveCommand: "", replaceCommand: false },
    };
    const prepared = await prepareEnable(session, [repository], asked, { connection, newLineage: false, signal });
    await carryOutEnable(session, [repository], prepared, { clock, signal });
  });
}

/** A base backup is refused as long as no WAL ever came. */
async function untilFirstStored({ repository, clock, signal }: DemoWorld): Promise<void> {
  for (;;) {
    for (const lineage of await listLineages(repository, demoInstance, { signal })) {
      for await (const _ of listWal(repository, lineage, { signal })) return;
    }
    await clock.delay(100, signal);
  }
}

function streamRequest(world: DemoWorld) {
  const { repository, connection, programs, streamFolder, clock, report } = world;
  const { holder, ttlMs } = leaseOf(world);
  return {
    ...{ instance: demoInstance, connection, slot, streamFolder, flushEveryMs: 1000, parallel: 2 },
    repositories: [{ where: repository.where, open: () => Promise.resolve(repository) }],
    ...{ onFull: "alert" as const, warnBytes: gib, alertBytes: 8 * gib, warnAfterMs: minuteMs },
    ...{ alertAfterMs: 3 * minuteMs, lease: { holder, ttlMs } },
    ...{ programsFor: () => Promise.resolve(programs), clock, report },
  };
}

export async function backUpInstance(world: DemoWorld): Promise<Manifest> {
  const request = {
    ...{ instance: demoInstance, connection: world.connection, standby: undefined, engine: "protocol" as const },
    ...{ label: undefined, checkpoint: "fast" as const, maxRate: undefined, level: 3, workers: 0 },
    ...{ incremental: false, withWal: false, walTimeoutMs: minuteMs },
  };
  const [made] = await backUpInto(world, (places, dependencies) => backupBase(request, places, dependencies));
  if (made === undefined) throw notProven("no base backup was made");
  const { base, storedBytes } = made.manifest;
  const sizes = `${formatBytes(base?.sizeBytes ?? 0)} on disk, ${formatBytes(storedBytes)} stored`;
  world.say(`   ${sizes}; WAL goes to the repository every second, the base backup's is there`);
  return made.manifest;
}
