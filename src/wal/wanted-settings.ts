import { PgkitError } from "../lib/errors.ts";
import type { ArchivingFacts } from "../postgres/archiving.ts";
import type { ArchivingRecord } from "../repo/archiving-record.ts";
import { configuredValue } from "./setting-values.ts";

export interface EnableRequest {
  instance: string;
  method: "archive" | "stream";
  /** Of the server: nothing can be set on a standby. */
  inRecovery: boolean;
  archiveCommand: string;
  timeoutMs: number;
  slot: string;
  /** An archive_command that is not ours is replaced, and put back by disable. */
  replaceCommand: boolean;
  /** What an earlier enable has changed. */
  recorded: ArchivingRecord | undefined;
}

export interface Wanted {
  name: string;
  to: string;
  why: string;
  /** Archiving works without it. */
  optional?: true | undefined;
}

/** PostgreSQL's own default, where none may connect. */
const connections = "10";

/** The settings that are not yet as the method needs them; what serves already, such as wal_level = logical, stays. */
export function wantedSettings(facts: ArchivingFacts, request: EnableRequest): Wanted[] {
  const value = (name: string) => configuredValue(facts, name);
  const wanted: (Wanted | false)[] = [
    value("wal_level") === "minimal" && {
      name: "wal_level",
      to: "replica",
      why: "with minimal the WAL lacks what recovery needs",
    },
    value("max_wal_senders") === "0" && {
      name: "max_wal_senders",
      to: connections,
      why: "base backups and streaming take such a connection",
    },
    ...(request.method === "archive" ? archiveSettings(value, request) : []),
    request.method === "stream" &&
      value("max_replication_slots") === "0" && {
        name: "max_replication_slots",
        to: connections,
        why: "a slot keeps WAL on the server until it is stored",
      },
    value("summarize_wal") === "off" && {
      name: "summarize_wal",
      to: "on",
      why: "incremental base backups go by its summaries",
      optional: true,
    },
  ];
  return wanted.filter((each) => each !== false);
}

function archiveSettings(
  value: (name: string) => string | undefined,
  { archiveCommand, timeoutMs }: EnableRequest,
): (Wanted | false)[] {
  const timeoutS = Math.max(1, Math.ceil(timeoutMs / 1000));
  const present = Number(value("archive_timeout") ?? 0);
  return [
    !["on", "always", "1"].includes(value("archive_mode") ?? "") && {
      name: "archive_mode",
      to: "on",
      why: "the process that archives starts with the server",
    },
    (value("archive_library") ?? "") !== "" && {
      name: "archive_library",
      to: "",
      why: "a library stands in the way of archive_command",
    },
    value("archive_command") !== archiveCommand && {
      name: "archive_command",
      to: archiveCommand,
      why: "it gives each complete segment to pgkit",
    },
    (present === 0 || present > timeoutS) && {
      name: "archive_timeout",
      to: String(timeoutS),
      why: "a segment that does not fill up is closed and archived after so many seconds: the most that can be lost",
      optional: true,
    },
  ];
}

/** What people set so that archive_mode can be on while nothing is archived. */
const placeholders: readonly string[] = ["", "true", "/bin/true", "/usr/bin/true", ":", "exit 0", "cd ."];

/** Fails with `refused-overwrite` where the server archives by something that pgkit has not set. */
export function refuseForeignCommand(facts: ArchivingFacts, request: EnableRequest): void {
  const library = configuredValue(facts, "archive_library") ?? "";
  const command = configuredValue(facts, "archive_command") ?? "";
  const ours = [request.archiveCommand, request.recorded?.settings["archive_command"]?.value];
  if (request.replaceCommand) return;
  const hint = "give --replace-command to take it over: it ends what archives now, and pgkit pitr disable puts it back";
  if (library !== "") {
    throw new PgkitError("refused-overwrite", `the server archives by archive_library = '${library}'`, { hint });
  }
  if (placeholders.includes(command.trim()) || ours.includes(command)) return;
  throw new PgkitError("refused-overwrite", `the server archives by another archive_command: ${command}`, { hint });
}
