import { access } from "node:fs/promises";
import { basename, join } from "node:path";
import { execa } from "execa";
import type { Programs } from "../postgres/programs.ts";
import { processOptions, type RunAs, writePrivateFile } from "../postgres/run-as.ts";
import { type RecoverySettingsInput, recoverySettings, withRecoveryBlock } from "./recovery-settings.ts";
import { readControlData, roomForSegments } from "./recovery-start.ts";

export interface ScratchConfiguration {
  programs: Programs;
  dataDir: string;
  /** A private folder of `runAs`. */
  folder: string;
  runAs: RunAs | undefined;
  recovery: Omit<RecoverySettingsInput, "noArchive">;
  /** shared_preload_libraries of the server that was backed up. */
  libraries: readonly string[];
  /** Other databases' pages are not in the files: what WAL says of them is passed over. */
  partial: boolean;
}

/**
 * Writes the whole configuration of a scratch server: nothing that the backup brings along has a say. Gives the settings
 * of its start. Nothing leaves this server, nothing runs in it by itself, and only who can enter the private folder of
 * its socket can reach it.
 */
export async function writeScratchConfiguration(given: ScratchConfiguration): Promise<Record<string, string>> {
  const { programs, dataDir, folder, runAs } = given;
  const control = await readControlData(programs, dataDir, runAs);
  const files = {
    config_file: join(folder, "postgresql.conf"),
    hba_file: join(folder, "pg_hba.conf"),
    ident_file: join(folder, "pg_ident.conf"),
  };
  const settings = { ...quiet, ...sizes(control), ...(programs.major >= 17 ? { event_triggers: "off" } : {}) };
  const all: [string, string][] = [
    ...Object.entries(settings),
    ["shared_preload_libraries", given.libraries.join(",")],
    ["ignore_invalid_pages", given.partial ? "on" : "off"],
    ...recoverySettings({ ...given.recovery, noArchive: true }),
  ];
  await writePrivateFile(files.config_file, withRecoveryBlock("", all), runAs);
  await writePrivateFile(files.hba_file, "local all all trust\n", runAs);
  await writePrivateFile(files.ident_file, "", runAs);
  return files;
}

/** Nothing of it is worth keeping, so nothing is flushed; with no background workers there are no jobs, nor subscriptions. */
const quiet = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  wal_level: "replica",
  max_wal_senders: "0",
  max_replication_slots: "0",
  max_worker_processes: "0",
  max_parallel_workers_per_gather: "0",
  max_logical_replication_workers: "0",
  "cron.launch_active_jobs": "off",
  autovacuum: "off",
  // Against wraparound it would run all the same.
  autovacuum_freeze_max_age: "2000000000",
  autovacuum_multixact_freeze_max_age: "2000000000",
  archive_command: "",
  hot_standby: "off",
  ssl: "off",
  jit: "off",
  allow_in_place_tablespaces: "on",
  shared_buffers: "128MB",
  max_wal_size: "2GB",
  checkpoint_timeout: "1h",
  // See recovery-start.ts.
  wal_recycle: "off",
  log_min_messages: "warning",
  // Without it there would be two lines more for every page that is passed over.
  log_error_verbosity: "terse",
  log_line_prefix: "",
  log_timezone: "UTC",
  log_startup_progress_interval: "1s",
};

/** Transactions that were prepared come back and need their places; a dump locks every table of the database at once. */
function sizes(control: ReadonlyMap<string, string>): Record<string, string> {
  const of = (label: string) => Number(control.get(label) ?? 0);
  return {
    ...roomForSegments(of("Bytes per WAL segment")),
    max_connections: "100",
    max_prepared_transactions: String(of("max_prepared_xacts setting")),
    max_locks_per_transaction: String(Math.max(1024, of("max_locks_per_xact setting"))),
  };
}

/** Of the libraries that the server loads at its start, those that are installed here, and those that are not. */
export async function installedLibraries(
  { binDir }: Programs,
  wanted: readonly string[],
): Promise<{ here: string[]; missing: string[] }> {
  const ran = await execa(join(binDir, "pg_config"), ["--pkglibdir"], { ...processOptions(undefined), reject: false });
  const folder = ran.exitCode === 0 ? ran.stdout.trim() : join(binDir, "..", "lib");
  const found = await Promise.all(wanted.map((name) => isThere(join(folder, `${basename(name, ".so")}.so`))));
  return { here: wanted.filter((_, at) => found[at]), missing: wanted.filter((_, at) => !found[at]) };
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
      throw error;
    },
  );
}
