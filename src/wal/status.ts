import { parseLsn } from "../lib/lsn.ts";
import { archivingFacts } from "../postgres/archiving.ts";
import { archivingHealth } from "../postgres/archiving-health.ts";
import { serverFacts } from "../postgres/server-facts.ts";
import type { Session } from "../postgres/session.ts";
import type { ArchivingServer, HealthInput } from "./health.ts";
import { freshStatus } from "./health-stream.ts";
import { walDisk } from "./wal-disk.ts";

/** Asks a server how its archiving is set up and how it goes. */
export async function archivingServer(session: Session): Promise<ArchivingServer> {
  const { systemId } = await serverFacts(session);
  const facts = await archivingFacts(session);
  const health = await archivingHealth(session);
  return { systemId, facts, health, disk: await walDisk(health.dataDirectory, systemId) };
}

/** What is written on the server and not stored. */
export interface ArchivingLag {
  bytes: number;
  /** For how long: exact where the streamer says it, else since something was stored last. 0 when all is stored. */
  seconds: number | undefined;
}

/**
 * How far the repository that is furthest behind is; `undefined` where server or repositories could not be asked, or
 * nothing is stored of this server.
 */
export function archivingLag(input: HealthInput): ArchivingLag | undefined {
  const { server, stored, expected } = input;
  if (server === undefined || stored.length === 0) return undefined;
  const { currentLsn, timeline, slots, now } = server.health;
  const newest = stored.map(({ lineages }) => {
    const own = lineages.find(({ systemId }) => systemId === server.systemId);
    return own?.timelines.find((each) => each.timeline === timeline) ?? own?.timelines.at(-1);
  });
  const known = newest.filter((each) => each !== undefined);
  if (known.length < newest.length) return undefined;
  const slot = slots.find(({ name, physical }) => physical && name === expected.slot)?.restartLsn;
  const ends = known.map(({ toLsn }) => parseLsn(toLsn));
  const least = ends.reduce((a, b) => (b < a ? b : a));
  // The streamer moves its slot to what is stored of the current segment, too.
  const end = slot !== undefined && parseLsn(slot) > least ? parseLsn(slot) : least;
  const bytes = Math.max(0, Number(parseLsn(currentLsn) - end));
  if (bytes === 0) return { bytes, seconds: 0 };
  const lastMs = Math.min(...known.map(({ lastStoredAt }) => lastStoredAt.getTime()));
  const since = Math.max(0, Math.round((now.getTime() - lastMs) / 1000));
  return { bytes, seconds: freshStatus(input)?.lagSeconds ?? since };
}
