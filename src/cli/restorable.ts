import type { Manifest } from "../repo/manifest.ts";
import type { FoundWindow } from "./windows.ts";

/** Until when a database can be brought back, and from what. */
export interface Restorable {
  instance: string;
  database: string;
  until: Date;
  isEstimate: boolean;
  /** The id of a logical backup, or the timeline of a window. */
  from: string;
}

/**
 * By instance and database, in the order of their first backup: the end of the newest window where there are base backups
 * with it, or its newest logical backup, which brings it back to the moment of its snapshot.
 */
export function restorableUntil(manifests: readonly Manifest[], windows: readonly FoundWindow[]): Restorable[] {
  const best = new Map<string, Restorable>();
  const offer = (candidate: Restorable) => {
    const key = JSON.stringify([candidate.instance, candidate.database]);
    const there = best.get(key);
    if (there === undefined || there.until <= candidate.until) best.set(key, candidate);
  };
  for (const { id, instance, database, startedAt } of manifests) {
    if (database === undefined) continue;
    offer({ instance, database, until: new Date(startedAt), isEstimate: false, from: id });
  }
  for (const window of windows) {
    const newest = manifests.findLast(
      ({ id, instance }) => instance === window.instance && id === window.backups.at(-1),
    );
    for (const { name } of newest?.base?.databases ?? []) {
      if (templates.has(name)) continue;
      const { instance, to: until, toIsEstimate: isEstimate, timeline } = window;
      offer({ instance, database: name, until, isEstimate, from: `WAL of timeline ${timeline}` });
    }
  }
  return [...best.values()];
}

const templates = new Set(["template0", "template1"]);
