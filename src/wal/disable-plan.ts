import { PgkitError } from "../lib/errors.ts";
import type { ArchivingFacts } from "../postgres/archiving.ts";
import type { ArchivingRecord } from "../repo/archiving-record.ts";
import { autoValue, configuredValue, valueBelowAuto } from "./setting-values.ts";

export interface DisablePlan {
  /** `to: undefined` takes the setting out of postgresql.auto.conf, where it was not before. */
  changes: { setting: string; from: string; to: string | undefined; needsRestart: boolean }[];
  dropSlots: string[];
  /** What pgkit had set and leaves as it is now, and why. */
  leftAlone: { name: string; why: string }[];
}

/**
 * What undoes an earlier enable, and nothing else: a setting that was changed since stays. Fails with `locked` when a
 * slot is in use, before anything is changed.
 */
export function planDisable(facts: ArchivingFacts, record: ArchivingRecord): DisablePlan {
  const dropSlots = slotsToDrop(facts, record);
  const leftAlone: DisablePlan["leftAlone"] = [];
  const changes: DisablePlan["changes"] = [];
  for (const [setting, { value, previous }] of Object.entries(record.settings)) {
    const now = autoValue(facts, setting);
    if (now === previous) continue;
    const why =
      now === value
        ? stillNeeded(facts, record, setting, dropSlots)
        : `it was changed to ${now ?? "the default"} since`;
    if (why !== undefined) {
      leftAlone.push({ name: setting, why });
      continue;
    }
    const needsRestart = facts.settings.get(setting)?.context === "postmaster" && isRunning(facts, setting, value);
    changes.push({ setting, from: value, to: previous, needsRestart });
  }
  return { changes, dropSlots, leftAlone };
}

/** The rights that the changes need; the same as for enable. */
export function refuseWithoutRightsToUndo(facts: ArchivingFacts, { changes }: DisablePlan, statements: string[]): void {
  const closed = changes.filter(({ setting }) => facts.notAlterable.includes(setting));
  if (changes.length === 0 || (closed.length === 0 && facts.mayReload && facts.files !== undefined)) return;
  throw new PgkitError("postgres-denied", `${facts.user} may not change the settings back`, {
    hint: `an administrator runs: ${[...statements, "SELECT pg_reload_conf()"].join("; ")}`,
  });
}

function slotsToDrop({ slots, streamers }: ArchivingFacts, record: ArchivingRecord): string[] {
  const ours = slots.filter(({ name, physical }) => physical && record.slots.includes(name));
  const active = ours.find((slot) => slot.active);
  // The streamer uses its slot by SQL, so that it never shows as active; and it would make the slot anew.
  if (ours.length > 0 && streamers > 0) {
    const message = `pgkit wal stream is connected to the server, and works with the slot ${ours[0]?.name}`;
    throw new PgkitError("locked", message, { hint: "stop it first" });
  }
  if (active === undefined) return ours.map(({ name }) => name);
  throw new PgkitError("locked", `the slot ${active.name} is in use`, { hint: "stop pgkit wal stream first" });
}

/** A change that never reached the running server needs no restart to go. */
function isRunning(facts: ArchivingFacts, setting: string, value: string): boolean {
  return facts.settings.get(setting)?.running === value;
}

const forReplication: readonly string[] = ["wal_level", "max_wal_senders", "max_replication_slots"];

/**
 * A server with wal_level = minimal does not start with slots, with max_wal_senders or with archive_mode on; and standbys
 * that came since would lose their connections.
 */
function stillNeeded(
  facts: ArchivingFacts,
  record: ArchivingRecord,
  setting: string,
  dropped: readonly string[],
): string | undefined {
  if (!forReplication.includes(setting)) return undefined;
  const others = facts.slots.filter(({ name }) => !dropped.includes(name)).map(({ name }) => name);
  if (others.length > 0) return `the slots ${others.join(", ")} need it`;
  if (facts.senders > 0) return `${facts.senders} connection(s) replicate from this server`;
  if (setting !== "wal_level") return undefined;
  const archives = ["archive_mode", "max_wal_senders"].filter((name) => staysOn(facts, record, name));
  return archives.length === 0
    ? undefined
    : `the server does not start without it while ${archives.join(" and ")} stays`;
}

/** Whether it will be on once everything recorded is undone. */
function staysOn(facts: ArchivingFacts, record: ArchivingRecord, name: string): boolean {
  const entry = record.settings[name];
  const undone = entry !== undefined && autoValue(facts, name) === entry.value;
  const after = undone
    ? (entry.previous ?? valueBelowAuto(facts, name) ?? facts.settings.get(name)?.byDefault)
    : configuredValue(facts, name);
  return !["off", "0"].includes(after ?? "");
}
