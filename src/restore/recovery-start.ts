import { stat } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { PgkitError } from "../lib/errors.ts";
import type { Programs } from "../postgres/programs.ts";
import { processOptions, type RunAs, writePrivateFile } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";

export interface RecoveryStart {
  programs: Programs;
  dataDir: string;
  runAs: RunAs | undefined;
  /** A private folder of `runAs`, for configuration files of this start. */
  folder: string;
  restoreCommand: string;
  segmentBytes: number;
  /** Whether sessions are let in before the end: needed to stay paused, and then the server's limits must suffice. */
  hotStandby: boolean;
  /** The restored instance is to archive nothing, also later. */
  noArchive: boolean;
}

/**
 * The settings that a server gets for a recovery that pgkit runs: it lets in only who can reach its socket, and nothing
 * leaves it: it archives nothing (what it would have is archived by its next start), and subscribes to nothing. Where the
 * backup has no configuration file, as that of Debian's packages is elsewhere, a minimal one is made.
 */
export async function recoveryStartSettings(start: RecoveryStart): Promise<Record<string, string>> {
  const { dataDir, folder, runAs } = start;
  const hba = join(folder, "pg_hba.conf");
  const ident = join(folder, "pg_ident.conf");
  await writePrivateFile(hba, "local all all trust\n", runAs);
  await writePrivateFile(ident, "", runAs);
  return {
    ...((await unlessAbsent(stat(join(dataDir, "postgresql.conf")))) !== undefined
      ? {}
      : await minimalConfiguration(start)),
    data_directory: dataDir,
    hba_file: hba,
    ident_file: ident,
    external_pid_file: "",
    restore_command: start.restoreCommand,
    // Or a segment that has done its work could take the name of one that was laid into pg_wal, and end the recovery there.
    wal_recycle: "off",
    ...roomForSegments(start.segmentBytes),
    hot_standby: start.hotStandby ? "on" : "off",
    // The history file of the new timeline is marked as one to archive, or no later recovery would find that timeline: also
    // where the instance's own archive_mode is not in the backup. With no command it waits for the next start.
    archive_mode: start.noArchive ? "off" : "on",
    archive_command: "",
    archive_library: "",
    ssl: "off",
    synchronous_standby_names: "",
    max_logical_replication_workers: "0",
    // pg_cron's, which is taken as a text where that is not loaded.
    "cron.launch_active_jobs": "off",
    log_min_messages: "warning",
    log_line_prefix: "",
    log_timezone: "UTC",
    log_startup_progress_interval: "1s",
  };
}

/**
 * A server with large segments does not start with the defaults of these two, and what it had may have been said on its
 * command line, or in a file that is not in the backup.
 */
export function roomForSegments(segmentBytes: number): Record<string, string> {
  const [megabytes, least] = [segmentBytes / 2 ** 20, (2 * segmentBytes) / 2 ** 20];
  return {
    ...(least <= 80 ? {} : { min_wal_size: `${least}MB` }),
    ...(least <= 1024 ? {} : { max_wal_size: `${4 * megabytes}MB` }),
  };
}

/** What recovery needs to be as it was on the server: pg_control knows it. */
async function minimalConfiguration({ programs, dataDir, runAs, folder }: RecoveryStart) {
  const controlData = await readControlData(programs, dataDir, runAs);
  const settings = Object.entries(needed).map(([name, label]) => `${name} = ${settingOf(controlData, label)}`);
  const path = join(folder, "postgresql.conf");
  await writePrivateFile(path, `${settings.join("\n")}\n`, runAs);
  return { config_file: path };
}

const needed = {
  max_connections: "max_connections setting",
  max_worker_processes: "max_worker_processes setting",
  max_wal_senders: "max_wal_senders setting",
  max_prepared_transactions: "max_prepared_xacts setting",
  max_locks_per_transaction: "max_locks_per_xact setting",
  wal_level: "wal_level setting",
} as const;

function settingOf(controlData: ControlData, label: string): string {
  const value = controlData.get(label);
  if (value !== undefined) return value;
  throw new PgkitError("tool-failed", `pg_controldata does not tell the ${label}`, {
    hint: "are the programs of the backup's major installed?",
  });
}

export type ControlData = ReadonlyMap<string, string>;

/** What pg_controldata prints, by its labels. */
export async function readControlData(
  { binDir }: Programs,
  dataDir: string,
  runAs: RunAs | undefined,
): Promise<ControlData> {
  const ran = await execa(join(binDir, "pg_controldata"), ["-D", dataDir], { ...processOptions(runAs), reject: false });
  if (ran.exitCode !== 0) throw new PgkitError("tool-failed", `pg_controldata of ${dataDir} failed: ${ran.stderr}`);
  const lines = ran.stdout.split("\n").map((line) => /^([^:]+):\s*(.*)$/.exec(line));
  return new Map(lines.flatMap((found) => (found === null ? [] : [[found[1] ?? "", found[2] ?? ""] as const])));
}
