import { type ProvenBackup, takeProvenBackup } from "../move-backup.ts";
import type { Step } from "../step.ts";
import { isThere, mustBeThere } from "./back-up.ts";

/** The last backup of the old database, always a new one: it is what is left of it when it is dropped. */
export const finalBackupStep: Step<undefined, ProvenBackup> = {
  name: "final-backup",
  does: "takes a last backup of the old database and reads it back",
  check: (context) => isThere(context, context.resultOf(finalBackupStep)),
  run: takeProvenBackup,
  verify: mustBeThere,
  undo: async () => undefined,
};
