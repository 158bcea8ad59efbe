import type { BackupFailure, BackupOutcome } from "../backup/logical.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { backupJson } from "./backup-json.ts";
import type { CommandContext } from "./command.ts";
import { errorJson, partlyDone } from "./failures.ts";
import { harmless } from "./text.ts";

export type MadeBackup = BackupOutcome["made"][number];

/** What a kind of backup says of its own, in text. */
export interface BackupWords {
  madeLine: (made: MadeBackup) => string;
  /** What to do with the first that was made. */
  nextStep: (made: MadeBackup) => string[];
}

/** Prints what a run of backups has made and what failed; gives the exit status. Fails with the failure where all failed. */
export function concludeBackups(
  { out, storeRequests }: CommandContext,
  { made, failures }: BackupOutcome,
  { madeLine, nextStep }: BackupWords,
): number {
  const [first] = made;
  if (first === undefined && failures.length > 0) throw allFailed(failures);
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
        ...(first === undefined ? [] : ["", ...nextStep(first)]),
      ].join("\n"),
  });
  return failures.length === 0 ? 0 : partlyDone;
}

/** How the stored bytes were proven, for a line of text. */
export function proofText({ manifest }: MadeBackup): string {
  return manifest.proof === "read-back" ? "reading back" : "the store's checksum";
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

function requestsLine({ repository, counts }: ReturnType<CommandContext["storeRequests"]>[number]): string {
  const { put, get, head, list } = counts;
  return `requests to ${repository}: ${put} put, ${get} get, ${head} head, ${list} list, ${counts.delete} delete`;
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
