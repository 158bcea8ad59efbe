import { inZone } from "../lib/parse-time.ts";
import { rfc3339 } from "../lib/time.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import type { RecoveryWindow, WindowGap } from "../repo/windows.ts";
import type { CommandContext } from "./command.ts";
import type { Findings } from "./read-repositories.ts";
import { table } from "./text.ts";

export type FoundWindow = RecoveryWindow & { repository: RepositoryReader };

/** The recovery windows of every instance that has base backups, by repository. */
export async function readWindows(context: CommandContext, { backups }: Findings): Promise<FoundWindow[]> {
  const windows: FoundWindow[] = [];
  const byRepository = Map.groupBy(backups, ({ repository }) => repository);
  for (const [repository, found] of byRepository) {
    const manifests = found.map(({ manifest }) => manifest);
    windows.push(...(await windowsOf(context, repository, manifests)).map((window) => ({ ...window, repository })));
  }
  return windows;
}

async function windowsOf(
  { signal, report }: CommandContext,
  repository: RepositoryReader,
  manifests: Manifest[],
): Promise<RecoveryWindow[]> {
  const bases = manifests.filter(({ kind }) => kind === "base");
  if (bases.length === 0) return [];
  const { readWalInventories } = await import("../repo/wal-inventory.ts");
  const { recoveryWindows, windowStretches } = await import("../repo/windows.ts");
  const { readStretchTimes } = await import("../wal/window-times.ts");
  const instances = bases.map(({ instance }) => instance);
  const inventories = await readWalInventories(repository, instances, {
    signal,
    unreadable: ({ message, hint }) =>
      report({ type: "warning", message: `left out of the windows: ${message}`, hint }),
  });
  const times = await readStretchTimes(repository, windowStretches(manifests, inventories), { signal });
  return recoveryWindows(manifests, inventories, times);
}

export function windowJson({ repository, toIsEstimate, ...window }: FoundWindow): Record<string, unknown> {
  const { instance, systemId, timeline, from, to, toLsn, gaps, backups } = window;
  return {
    ...{ instance, systemId, timeline, from: rfc3339(from), to: rfc3339(to), toLsn },
    ...(toIsEstimate ? { toIsEstimate } : {}),
    gaps: gaps.map(gapJson),
    backups,
    repository: repository.where,
  };
}

function gapJson({ timeline, fromLsn, toLsn, from, to, reason }: WindowGap): Record<string, unknown> {
  return {
    ...{ timeline, fromLsn, toLsn },
    ...(from === undefined ? {} : { from: rfc3339(from) }),
    ...(to === undefined ? {} : { to: rfc3339(to) }),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** A line a window; the server is named where an instance has been several. */
export function windowsText(windows: readonly FoundWindow[], timeZone: string): string {
  const servers = Map.groupBy(windows, ({ instance }) => instance);
  const rows = windows.map(({ instance, systemId, timeline, from, to, toIsEstimate, gaps }) => {
    const several = new Set(servers.get(instance)?.map((window) => window.systemId)).size > 1;
    return [
      several ? `${instance} (server ${systemId})` : instance,
      String(timeline),
      inZone(from, timeZone),
      `${toIsEstimate ? "about " : ""}${inZone(to, timeZone)}`,
      gaps.length === 0 ? "none" : gaps.map((gap) => gapText(gap, timeZone)).join("; "),
    ];
  });
  return table(
    ["INSTANCE", "TIMELINE", "FROM", "TO", "GAPS"].map((title) => ({ title })),
    rows,
  );
}

function gapText({ fromLsn, toLsn, from, to, reason }: WindowGap, timeZone: string): string {
  const times = [from && `from ${inZone(from, timeZone)}`, to && `to ${inZone(to, timeZone)}`];
  const when = times.filter((time) => time !== undefined).join(" ");
  const missing = `WAL ${fromLsn} to ${toLsn} is missing`;
  return `${missing}${when === "" ? "" : `, ${when}`}${reason === undefined ? "" : ` (${reason})`}`;
}
