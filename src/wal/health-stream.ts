import { formatBytes, formatDuration } from "../lib/parse.ts";
import { rfc3339 } from "../lib/time.ts";
import type { SlotHealth } from "../postgres/archiving-health.ts";
import type { HealthFinding, HealthInput } from "./health.ts";
import { judged, type WithServer } from "./health-server.ts";
import { lagLevel } from "./stream-lag.ts";
import type { StreamStatus } from "./stream-status.ts";

/** A streamer writes its status every few seconds; an older one says nothing about now. */
const freshMs = 60_000;

/** How the streamer keeps up, by its slot, which it moves to what is stored, and by its own status where that is here. */
export function streamFindings(input: WithServer): HealthFinding[] {
  const { server, expected } = input;
  const slot = server.health.slots.find(({ name }) => name === expected.slot);
  if (slot === undefined) return [];
  const status = freshStatus(input);
  return [
    slotFinding(slot, input, status),
    streamer(slot, input, status),
    ...(status === undefined ? [] : said(status)),
  ];
}

/** The status of the streamer of this server, where one has written it lately on this machine. */
export function freshStatus({ streamer, server, now }: HealthInput): StreamStatus | undefined {
  if (streamer === undefined || now.getTime() - Date.parse(streamer.updatedAt) > freshMs) return undefined;
  return server === undefined || streamer.systemId === server.systemId ? streamer : undefined;
}

function slotFinding(slot: SlotHealth, { expected }: WithServer, status: StreamStatus | undefined): HealthFinding {
  const { name, walStatus, retainedBytes = 0, safeBytes } = slot;
  if (walStatus === "lost") {
    return {
      ...{ name: "slot", level: "alert", code: "slot-lost" },
      message: `the slot ${name} has lost WAL that was not stored (max_slot_wal_keep_size)`,
      remedy: `pgkit wal stream makes it anew; then pgkit backup base --instance ${expected.instance}, as nothing is restorable across the gap`,
    };
  }
  const seconds = status?.lagSeconds ?? 0;
  const late = seconds > 0 ? `, the oldest for ${formatDuration(seconds * 1000)}` : "";
  const message = `the slot ${name} keeps ${formatBytes(retainedBytes)} of WAL that is not stored${late}`;
  const remedy = "is pgkit wal stream running, and the repository reachable and fast enough?";
  if (walStatus === "unreserved" || (safeBytes !== undefined && safeBytes < retainedBytes / 4)) {
    const left = safeBytes === undefined ? "" : `: ${formatBytes(Math.max(0, safeBytes))} of WAL more, and it is lost`;
    return {
      name: "slot",
      level: "alert",
      message: `${message}, nearly as much as max_slot_wal_keep_size${left}`,
      remedy,
    };
  }
  return { name: "slot", ...judged(lagLevel(retainedBytes, seconds, expected), message, remedy) };
}

function streamer(
  slot: SlotHealth,
  { server, expected, stored, now }: WithServer,
  status: StreamStatus | undefined,
): HealthFinding {
  const { health, systemId } = server;
  const name = "streamer";
  if (health.streamers > 0) {
    const where = status === undefined ? "" : ` (${status.state} on ${status.host}, process ${status.pid})`;
    return { name, level: "ok", message: `pgkit wal stream is connected${where}` };
  }
  const times = stored
    .flatMap(({ lineages }) => lineages.filter((lineage) => lineage.systemId === systemId))
    .flatMap(({ timelines }) => timelines.map(({ lastStoredAt }) => lastStoredAt.getTime()));
  const sinceMs = slot.inactiveSince?.getTime() ?? (times.length === 0 ? undefined : Math.max(...times));
  const away = sinceMs !== undefined && now.getTime() - sinceMs < expected.alertAfterMs;
  const since = sinceMs === undefined ? "" : `; last seen at ${rfc3339(new Date(sinceMs))}`;
  return {
    ...{ name, level: away ? "warn" : "alert" },
    message: `pgkit wal stream is not connected to the server${since}: what is written is stored nowhere else`,
    remedy: `start it: pgkit wal stream --instance ${expected.instance}`,
  };
}

function said({ troubles }: StreamStatus): HealthFinding[] {
  return troubles.map(({ where, message, since }) => ({
    ...{ name: "streamer", level: "warn", message: `since ${since}, ${where}: ${message}` },
    remedy: "it tries again by itself; pgkit check tells more of the repository",
  }));
}
