import { formatBytes } from "../../lib/parse.ts";
import { concludeBackups, type MadeBackup, proofText } from "../backup-outcome.ts";
import { takeBaseBackup } from "../base-backup.ts";
import type { Command } from "../command.ts";

export const backupBaseCommand: Command = {
  name: "backup base",
  summary: "Back up an instance as a whole, as the base of recovery to any later moment",
  arguments: [],
  options: [
    "incremental",
    "withWal",
    "engine",
    "standby",
    "label",
    "checkpoint",
    "maxRate",
    "walTimeout",
    "inKubernetes",
    "detach",
  ],
  examples: [
    { line: "pgkit backup base", does: "the only instance, as fast as it goes" },
    { line: "pgkit backup base --incremental", does: "what has changed since the newest base backup (17 and newer)" },
    { line: "pgkit backup base --in-kubernetes", does: "by a Job in the cluster, followed from here" },
    { line: "pgkit backup base --with-wal", does: "restores without an archive, to its own end" },
    { line: "pgkit backup base --checkpoint spread --max-rate 50MiB", does: "with little load on the server" },
  ],
  run: async (context, { flags }) => {
    if (flags.inKubernetes) {
      const { backupInKubernetes } = await import("../backup-in-kubernetes.ts");
      return backupInKubernetes(context, "base", flags);
    }
    const outcome = await takeBaseBackup(context, context.instance(), flags);
    return concludeBackups(context, outcome, { madeLine, nextStep });
  },
};

function madeLine(made: MadeBackup): string {
  const { id, storedBytes, base } = made.manifest;
  const wal = base?.walIncluded === true ? "its WAL inside" : "its WAL archived";
  return `${id}  ${formatBytes(base?.sizeBytes ?? 0)}, ${formatBytes(storedBytes)} stored in ${made.repository}, proven by ${proofText(made)}, ${wal}`;
}

function nextStep({ manifest: { id, base } }: MadeBackup): string[] {
  return [
    `restores any moment since ${base?.stoppedAt} for which WAL is stored: pgkit restore --to-time T --data-dir DIR`,
    `check it with: pgkit verify ${id} --deep`,
  ];
}
