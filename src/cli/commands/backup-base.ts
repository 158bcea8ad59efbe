import type { BackupFailure, BackupOutcome } from "../../backup/logical.ts";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/parse.ts";
import { backupJson } from "../backup-json.ts";
import { takeBaseBackup } from "../base-backup.ts";
import type { Command, CommandContext } from "../command.ts";
import { errorJson, partlyDone } from "../failures.ts";
import { harmless } from "../text.ts";

export const backupBaseCommand: Command = {
  name: "backup base",
  summary: "Back up an instance as a whole, as the base of recovery to any later moment",
  arguments: [],
  options: ["incremental", "withWal", "engine", "standby", "label", "checkpoint", "maxRate", "walTimeout"],
  examples: [
    { line: "pgkit backup base", does: "the only instance, as fast as it goes" },
    { line: "pgkit backup base --incremental", does: "what has changed since the newest base backup (17 and newer)" },
    { line: "pgkit backup base --with-wal", does: "restores without an archive, to its own end" },
    { line: "pgkit backup base --checkpoint spread --max-rate 50MiB", does: "with little load on the server" },
  ],
  run: async (context, { flags }) => conclude(context, await takeBaseBackup(context, context.instance(), flags)),
};

function conclude({ out, storeRequests }: CommandContext, { made, failures }: BackupOutcome): number {
  const [first] = failures;
  if (made.length === 0 && first !== undefined) throw allFailed(failures);
  out.result({
    json: {
      backups: made.map(({ manifest, repository }) => ({ ...backupJson(manifest), repository })),
      requests: storeRequests(),
      ...(failures.length === 0 ? {} : { failures: failures.map(failureJson) }),
    },
    text: () => [...made.map(madeLine), ...failures.map(failureLine), ...nextStep(made)].join("\n"),
  });
  return failures.length === 0 ? 0 : partlyDone;
}

/** One cause for all keeps its own exit status; different ones are told one after the other. */
function allFailed(failures: readonly BackupFailure[]): unknown {
  const [first] = failures;
  if (failures.length === 1 || !isPgkitError(first?.error)) return first?.error;
  const hint = first.error.hint;
  const message = failures.map(failureText).join("\n");
  return new PgkitError(first.error.code, message, { ...(hint === undefined ? {} : { hint }), cause: first.error });
}

function madeLine({ manifest, repository }: BackupOutcome["made"][number]): string {
  const { id, storedBytes, proof, base } = manifest;
  const proven = proof === "read-back" ? "reading back" : "the store's checksum";
  const wal = base?.walIncluded === true ? "its WAL inside" : "its WAL archived";
  return `${id}  ${formatBytes(base?.sizeBytes ?? 0)}, ${formatBytes(storedBytes)} stored in ${repository}, proven by ${proven}, ${wal}`;
}

function nextStep(made: BackupOutcome["made"]): string[] {
  const [first] = made;
  if (first === undefined) return [];
  const { id, base } = first.manifest;
  return [
    "",
    `restores any moment since ${base?.stoppedAt} for which WAL is stored: pgkit restore --to-time T --data-dir DIR`,
    `check it with: pgkit verify ${id} --deep`,
  ];
}

function failureLine(failure: BackupFailure): string {
  const hint = isPgkitError(failure.error) && failure.error.hint !== undefined ? `\n  hint: ${failure.error.hint}` : "";
  return harmless(`FAILED ${failureText(failure)}${hint}`);
}

function failureText({ repository, error }: BackupFailure): string {
  return `${repository}: ${error instanceof Error ? error.message : String(error)}`;
}

function failureJson({ repository, error }: BackupFailure) {
  return { repository, ...errorJson(error) };
}
