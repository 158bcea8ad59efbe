import { formatDuration } from "../lib/parse.ts";
import type { ArchivingExpectation, ArchivingServer, HealthFinding, SetUp } from "./health.ts";
import { configuredValue } from "./setting-values.ts";

/** Whether the server is set up as configured, and whether that can hold the objective. */
export function setUpFindings(expected: ArchivingExpectation, server: ArchivingServer, setUp: SetUp): HealthFinding[] {
  const main = { name: "archiving", ...mainFinding(expected, server, setUp) };
  return setUp.byCommand || setUp.bySlot ? [main, ...objective(expected, server, setUp)] : [main];
}

function mainFinding(
  expected: ArchivingExpectation,
  { facts, health }: ArchivingServer,
  setUp: SetUp,
): Omit<HealthFinding, "name"> {
  const { instance } = expected;
  const enable = `pgkit pitr enable ${instance}`;
  if (!setUp.meant) {
    return { level: "ok", message: `not set up: nothing but the moments of backups can be restored (${enable})` };
  }
  if (health.inRecovery) return { level: "ok", message: "this is a standby: it is archived from its primary" };
  if (facts.settings.get("wal_level")?.running === "minimal") {
    const pending = facts.settings.get("wal_level")?.pendingRestart === true;
    const remedy = pending ? "restart the server" : enable;
    return { level: "alert", message: "wal_level is minimal: what is written now cannot be recovered", remedy };
  }
  return setUp.method === "archive" ? byCommand(expected, facts, setUp) : bySlot(expected, setUp);
}

function byCommand(
  { instance }: ArchivingExpectation,
  facts: ArchivingServer["facts"],
  setUp: SetUp,
): Omit<HealthFinding, "name"> {
  const mode = facts.settings.get("archive_mode");
  const command = configuredValue(facts, "archive_command") ?? "";
  if (!setUp.byCommand && mode?.running !== "off" && command !== "") {
    const message = `the server archives by another archive_command: ${command}`;
    return { level: "alert", message, remedy: `pgkit pitr enable ${instance} --replace-command` };
  }
  if (!setUp.byCommand) return notSetUp(instance, "archive");
  if (mode?.running === "off") {
    const waits = mode.pendingRestart ? " and waits for a restart" : "";
    const remedy = mode.pendingRestart ? "restart the server" : `pgkit pitr enable ${instance}`;
    return { level: "alert", message: `archive_mode is off${waits}: until then nothing is archived`, remedy };
  }
  return { level: "ok", message: "the server archives by pgkit wal push" };
}

function bySlot({ instance, slot }: ArchivingExpectation, setUp: SetUp): Omit<HealthFinding, "name"> {
  if (!setUp.bySlot) return notSetUp(instance, "stream");
  return { level: "ok", message: `pgkit wal stream follows the server, and the slot ${slot} keeps WAL for it` };
}

function notSetUp(instance: string, method: string): Omit<HealthFinding, "name"> {
  const message = `the method ${method} is configured and not set up on the server: its WAL is not kept`;
  return { level: "alert", message, remedy: `pgkit pitr enable ${instance}` };
}

/** How much can be lost when the server ends suddenly, against what may be. */
function objective(expected: ArchivingExpectation, { facts }: ArchivingServer, { method }: SetUp): HealthFinding[] {
  const { rpoMs, flushEveryMs, instance } = expected;
  if (rpoMs === undefined) return [];
  const timeoutMs = Number(facts.settings.get("archive_timeout")?.running ?? 0) * 1000;
  const name = method === "archive" ? "archive_timeout" : "archive.flushEvery";
  const boundMs = method === "archive" ? timeoutMs : flushEveryMs;
  const asked = `objectives.rpo is ${formatDuration(rpoMs)}`;
  if (boundMs > 0 && boundMs <= rpoMs) {
    return [{ name: "rpo", level: "ok", message: `${asked}, and ${name} is ${formatDuration(boundMs)}` }];
  }
  const bound = boundMs === 0 ? "0: a segment may stay open for ever" : formatDuration(boundMs);
  const setting = method === "archive" ? "archive.timeout" : "archive.flushEvery";
  const remedy = `set instances.${instance}.${setting} to ${Math.floor(rpoMs / 1000)}s or less${method === "archive" ? `, then pgkit pitr enable ${instance}` : ""}`;
  return [{ name: "rpo", level: "warn", message: `${asked}, which cannot be held: ${name} is ${bound}`, remedy }];
}
