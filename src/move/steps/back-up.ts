import { isPgkitError } from "../../lib/errors.ts";
import { readManifest } from "../../repo/backups.ts";
import { findProvenBackup, type ProvenBackup, takeProvenBackup } from "../move-backup.ts";
import type { MoveContext, Step } from "../step.ts";

/** A backup of the database that was read back: a fresh one that is there, or a new one. It stays when the move is undone. */
export const backUpStep: Step<undefined, ProvenBackup> = {
  name: "back-up",
  does: "reads back a fresh backup of the database, or takes one and reads that back",
  check: (context) => isThere(context, context.resultOf(backUpStep)),
  run: async (context) =>
    (await findProvenBackup(context, context.move.options.backupMaxAgeMs)) ?? (await takeProvenBackup(context)),
  verify: mustBeThere,
  undo: async () => undefined,
};

/** `done` where the backup that was proven still exists. */
export async function isThere(context: MoveContext, backup: ProvenBackup | undefined): Promise<"todo" | "done"> {
  if (backup === undefined) return "todo";
  try {
    await mustBeThere(context, backup);
    return "done";
  } catch (error) {
    if (isPgkitError(error, "backup-missing")) return "todo";
    throw error;
  }
}

/** Fails with `backup-missing`. */
export async function mustBeThere({ repository, move, signal }: MoveContext, { id }: ProvenBackup): Promise<void> {
  await readManifest(repository, { instance: move.source.instance, id }, { signal });
}
