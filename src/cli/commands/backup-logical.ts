import type { BackupFailure, BackupOutcome } from "../../backup/logical.ts";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/parse.ts";
import { leaseOptions } from "../actor.ts";
import { backupJson } from "../backup-json.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { errorJson, partlyDone } from "../failures.ts";
import { harmless } from "../text.ts";

export const backupLogicalCommand: Command = {
  name: "backup logical",
  summary: "Back up each database of an instance by pg_dump, with its roles, grants, settings and extensions",
  arguments: [{ name: "DB...", doc: "databases; all but the excluded when none is named" }],
  options: ["jobs"],
  examples: [
    { line: "pgkit backup logical", does: "every database of the only instance" },
    { line: "pgkit backup logical litellm n8n --instance shared", does: "two databases of one of several instances" },
    { line: "PGHOST=db PGUSER=postgres pgkit backup logical --repository /backups", does: "without a file" },
  ],
  run: backupLogicalOf,
};

async function backupLogicalOf(context: CommandContext, args: CommandArguments): Promise<number> {
  const { backupLogical } = await import("../../backup/logical.ts");
  const { withDestinations } = await import("../../backup/destinations.ts");
  const { programsFor } = await import("../../postgres/programs.ts");
  const { config, signal, clock, report } = context;
  const instance = context.instance();
  const connection = await context.connection(instance);
  const openers = config.repositories.map((repository) => ({
    where: repository.url,
    open: () => context.openOrCreateRepository(repository),
  }));
  const lease = { ...leaseOptions(context, "backup logical"), withoutConditions: "proceed" as const };
  const outcome = await withDestinations(openers, instance.name, lease, async (destinations, failures) => {
    const [first] = failures;
    if (destinations.length === 0 && first !== undefined) throw first.error;
    const made = await backupLogical(
      {
        instance: instance.name,
        connection,
        databases: args.all("DB..."),
        ...instance.databases,
        connections: instance.connections,
        jobs: args.flags.jobs ?? instance.jobs,
        wholeBelowBytes: instance.wholeBelowBytes,
        countRows: instance.countRows,
      },
      destinations,
      {
        programsFor: (major) => programsFor(major, config.postgresBin),
        pgkitVersion: context.version,
        ...{ clock, report, signal },
      },
    );
    return { made: made.made, failures: [...failures, ...made.failures] };
  });
  return conclude(context, outcome);
}

function conclude({ out, storeRequests }: CommandContext, { made, failures }: BackupOutcome): number {
  const [first] = failures;
  if (made.length === 0 && first !== undefined) throw allFailed(failures);
  out.result({
    json: {
      backups: made.map(({ manifest, repository }) => ({ ...backupJson(manifest), repository })),
      requests: storeRequests(),
      ...(failures.length === 0 ? {} : { failures: failures.map(failureJson) }),
    },
    text: () =>
      [
        ...made.map(madeLine),
        ...failures.map(failureLine),
        ...storeRequests().map(requestsLine),
        ...nextStep(made),
      ].join("\n"),
  });
  return failures.length === 0 ? 0 : partlyDone;
}

/** One cause for all keeps its own exit status; different ones are told one after the other. */
function allFailed(failures: readonly BackupFailure[]): unknown {
  const [first] = failures;
  if (failures.length === 1 || !isPgkitError(first?.error)) return first?.error;
  return new PgkitError(first.error.code, failures.map(failureText).join("\n"), {
    ...(first.error.hint === undefined ? {} : { hint: first.error.hint }),
    cause: first.error,
  });
}

function madeLine({ manifest }: BackupOutcome["made"][number]): string {
  const { id, storedBytes, proof, logical } = manifest;
  const tables = logical?.tables.length ?? 0;
  return `${id}  ${tables} tables, ${formatBytes(storedBytes)} stored, proven by ${proof === "read-back" ? "reading back" : "the store's checksum"}`;
}

function requestsLine({ repository, counts }: ReturnType<CommandContext["storeRequests"]>[number]): string {
  const { put, get, head, list } = counts;
  return `requests to ${repository}: ${put} put, ${get} get, ${head} head, ${list} list, ${counts.delete} delete`;
}

function nextStep(made: BackupOutcome["made"]): string[] {
  const [first] = made;
  return first === undefined ? [] : ["", `check one with: pgkit verify ${first.manifest.id} --deep`];
}

function failureLine(failure: BackupFailure): string {
  const hint = isPgkitError(failure.error) && failure.error.hint !== undefined ? `\n  hint: ${failure.error.hint}` : "";
  return harmless(`FAILED ${failureText(failure)}${hint}`);
}

function failureText({ database, repository, error }: BackupFailure): string {
  const message = error instanceof Error ? error.message : String(error);
  const where = [database, repository].filter((part) => part !== undefined).join(" into ");
  return `${where}: ${message}`;
}

function failureJson({ database, repository, error }: BackupFailure) {
  return { ...(database === undefined ? {} : { database }), repository, ...errorJson(error) };
}
