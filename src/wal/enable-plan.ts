import { PgkitError } from "../lib/errors.ts";
import { type ArchivingFacts, alterSystem } from "../postgres/archiving.ts";
import { identifier } from "../postgres/quote.ts";
import type { ArchivingRecord } from "../repo/archiving-record.ts";
import { planSlot, type SlotPlan } from "./enable-slot.ts";
import { autoValue, beyondAlterSystem, configuredValue } from "./setting-values.ts";
import { type EnableRequest, refuseForeignCommand, type Wanted, wantedSettings } from "./wanted-settings.ts";

export interface SettingChange {
  setting: string;
  /** What the server runs with, or will after a restart that is pending already. */
  from: string;
  to: string;
  needsRestart: boolean;
  why: string;
}

export interface EnablePlan {
  changes: SettingChange[];
  slot: SlotPlan | undefined;
  /** What holds besides, and is no change. */
  notes: string[];
}

/**
 * What is missing on the server for a method of archiving. Fails with `server-settings` where it cannot be set,
 * `refused-overwrite` where somebody else's archive_command or slot is in the way, and `postgres-denied`, with the
 * statements for the administrator, where the user may not set it.
 */
export function planEnable(facts: ArchivingFacts, request: EnableRequest): EnablePlan {
  refuseStandby(request);
  refuseBrokenFiles(facts);
  if (request.method === "archive") refuseForeignCommand(facts, request);
  const slot = request.method === "stream" ? planSlot(facts, request.slot) : undefined;
  const notes: string[] = [];
  const wanted = wantedSettings(facts, request).flatMap((each) => changeFor(facts, each, notes));
  const changes = allowedChanges(facts, wanted, notes);
  return { changes, slot, notes: [...notes, ...notesOn(facts, request)] };
}

/** The record after the plan: what an earlier enable found stays known where our value still stands. */
export function recordOf(
  facts: ArchivingFacts,
  { changes, slot }: EnablePlan,
  { recorded, method }: EnableRequest,
  enabledAt: string,
): ArchivingRecord {
  const settings = { ...recorded?.settings };
  for (const { setting, to } of changes) {
    const before = settings[setting];
    const now = autoValue(facts, setting);
    const previous = before !== undefined && before.value === now ? before.previous : now;
    settings[setting] = { value: to, ...(previous === undefined ? {} : { previous }) };
  }
  const made = slot?.action === "create" || slot?.action === "replace" ? [slot.name] : [];
  const slots = [...new Set([...(recorded?.slots ?? []), ...made])];
  return { format: 1, method, enabledAt, settings, slots };
}

function refuseStandby({ inRecovery, instance }: EnableRequest): void {
  if (!inRecovery) return;
  throw new PgkitError(
    "server-settings",
    `the server of instance ${instance} is a standby: nothing can be set up on it`,
    {
      hint: "point the instance's url at the primary; a standby takes its settings over by hand",
    },
  );
}

function refuseBrokenFiles({ files = [] }: ArchivingFacts): void {
  const broken = files.find(({ error }) => error !== undefined);
  if (broken === undefined) return;
  const { file, line, name, error } = broken;
  throw new PgkitError("server-settings", `the server cannot read ${file}, line ${line}: ${name ?? ""} ${error}`, {
    hint: "correct it first: until then a reload applies nothing, and a restart fails",
  });
}

type WantedChange = SettingChange & Pick<Wanted, "optional">;

function changeFor(facts: ArchivingFacts, wanted: Wanted, notes: string[]): WantedChange[] {
  const { name, to, why, optional } = wanted;
  const from = configuredValue(facts, name) ?? "";
  const source = beyondAlterSystem(facts, name);
  if (source === undefined) {
    const needsRestart = facts.settings.get(name)?.context === "postmaster";
    return [{ setting: name, from, to, needsRestart, why, optional }];
  }
  const message = `${name} is ${from === "" ? "empty" : from} by the ${source} that the server was started with, which ALTER SYSTEM does not change, and should be ${to}`;
  const hint = `whoever starts the server (its unit file, container or operator) must set ${name} = ${to} there, or leave it out`;
  if (optional !== true) throw new PgkitError("server-settings", message, { hint });
  notes.push(`${message}: ${hint}`);
  return [];
}

/** The changes that the user may do. What archiving works without becomes a note; fails where the rest is not allowed. */
function allowedChanges(facts: ArchivingFacts, wanted: readonly WantedChange[], notes: string[]): SettingChange[] {
  const changes = wanted.map(({ optional: _, ...change }) => change);
  const closed = changes.filter(({ setting }) => facts.notAlterable.includes(setting));
  if (changes.length === 0 || (closed.length === 0 && facts.mayReload && facts.files !== undefined)) return changes;
  const statements = [...changes.map(({ setting, to }) => alterSystem(setting, to)), "SELECT pg_reload_conf()"];
  const hint = `an administrator runs: ${statements.join("; ")}; or lets pgkit do and undo it: ${grantsFor(facts, closed).join("; ")}`;
  if (wanted.some(({ optional }) => optional !== true)) {
    const message = `${facts.user} may not change the settings that archiving needs`;
    throw new PgkitError("postgres-denied", message, { hint });
  }
  notes.push(`${facts.user} may not set ${changes.map(({ setting }) => setting).join(", ")}: ${hint}`);
  return [];
}

function grantsFor({ user, mayReload, files }: ArchivingFacts, closed: readonly SettingChange[]): string[] {
  const who = identifier(user);
  return [
    ...closed.map(({ setting }) => `GRANT ALTER SYSTEM ON PARAMETER ${setting} TO ${who}`),
    ...(mayReload ? [] : [`GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO ${who}`]),
    ...(files === undefined ? [`GRANT SELECT ON pg_catalog.pg_file_settings TO ${who}`] : []),
    ...(files === undefined ? [`GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_all_file_settings() TO ${who}`] : []),
  ];
}

function notesOn({ settings, slots, senders }: ArchivingFacts, { recorded, method, slot }: EnableRequest): string[] {
  const notes: string[] = [];
  if (settings.has("summarize_wal")) {
    notes.push("with summarize_wal the server keeps what incremental backups need (pgkit backup base --incremental)");
  }
  if (recorded !== undefined && recorded.method !== method) {
    notes.push(
      `the method ${recorded.method} stays set up beside it: both store the same WAL, until pgkit pitr disable`,
    );
  }
  const most = Number(settings.get("max_wal_senders")?.running ?? 0);
  if (most > 0 && senders >= most) {
    notes.push(`all ${most} connections of max_wal_senders are in use: base backups and streaming need one each`);
  }
  const lost = slots.filter(({ name, walStatus }) => walStatus === "lost" && name !== slot);
  if (lost.length > 0) notes.push(`slots of others have lost WAL: ${lost.map(({ name }) => name).join(", ")}`);
  return notes;
}
