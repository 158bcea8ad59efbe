import { mkdir, readdir, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type ErrorCode, errorCodes, isPgkitError, PgkitError } from "../lib/errors.ts";
import { walFileKind } from "../lib/lsn.ts";
import { errorCode, unlessAbsent } from "../store/file/errors.ts";

/** The folder in which the short-lived commands that PostgreSQL runs and their background workers meet. */
export interface Spool {
  /** Absolute. */
  folder: string;
  /** Absolute; of the one server that this spool belongs to. */
  dataDir: string;
}

/** Makes the spool where it is missing (0700). Fails with `config` when `dataDir` is no data directory or it cannot be made. */
export async function openSpool(dataDir: string, spool: string): Promise<Spool> {
  if ((await unlessAbsent(stat(join(dataDir, "global", "pg_control")))) === undefined) {
    throw new PgkitError("config", `${dataDir} is not the data directory of a PostgreSQL server`, {
      hint: "PostgreSQL runs archive_command and restore_command there; by hand, go there first",
    });
  }
  const folder = resolve(dataDir, spool);
  try {
    await mkdir(join(folder, "in"), { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new PgkitError("config", `the spool ${folder} cannot be made: ${errorCode(cause)}`, {
      hint: "it needs a folder that the user of the server can write to: archive.spool",
      cause,
    });
  }
  return { folder, dataDir };
}

/** The names of WAL files that wait to be archived, in PostgreSQL's order: histories first, then by name. */
export async function readyFiles({ dataDir }: Spool): Promise<string[]> {
  const notes = await readdir(join(dataDir, "pg_wal", "archive_status"));
  const names = notes.filter((note) => note.endsWith(".ready")).map((note) => note.slice(0, -".ready".length));
  return names.filter((name) => walFileKind(name) !== undefined).sort(byUrgency);
}

export async function isReady({ dataDir }: Spool, name: string): Promise<boolean> {
  return (await unlessAbsent(stat(join(dataDir, "pg_wal", "archive_status", `${name}.ready`)))) !== undefined;
}

/**
 * True when there is a note that this file is stored, and the note is newer than the file, as the shell's `-nt` has it: one
 * left over of an earlier file of that name says nothing.
 */
export async function isNotedStored({ folder }: Spool, name: string, path: string): Promise<boolean> {
  const note = await unlessAbsent(stat(join(folder, `${name}.ok`), { bigint: true }));
  if (note === undefined) return false;
  const file = await unlessAbsent(stat(path, { bigint: true }));
  return file !== undefined && note.mtimeNs > file.mtimeNs;
}

/**
 * Notes that the file is stored. It is not synced to the disk: a note that a power cut takes away only costs a second
 * look, and one that stays was written after the file was durable in every repository.
 */
export async function noteStored(spool: Spool, name: string): Promise<void> {
  await writeNote(spool, `${name}.ok`, "");
  await unlessAbsent(unlink(join(spool.folder, `${name}.error`)));
}

/** Forgets all that is noted, and not yet told to PostgreSQL. */
export async function forgetNotes(spool: Spool): Promise<void> {
  await sweepNotes(spool, new Set());
}

export async function noteFailure(spool: Spool, name: string, error: unknown): Promise<void> {
  const { code, message, hint } = isPgkitError(error)
    ? error
    : {
        code: "bug",
        message: error instanceof Error ? (error.stack ?? error.message) : String(error),
        hint: undefined,
      };
  await writeNote(spool, `${name}.error`, JSON.stringify({ code, message, hint }));
}

/** What the worker noted last about the file, `undefined` where there is no note. */
export async function notedFailure({ folder }: Spool, name: string): Promise<PgkitError | undefined> {
  const text = await unlessAbsent(readFile(join(folder, `${name}.error`), "utf8"));
  if (text === undefined) return undefined;
  const { code, message, hint } = JSON.parse(text) as { code: string; message: string; hint?: string };
  const known = code in errorCodes ? (code as ErrorCode) : "bug";
  return new PgkitError(known, message, hint === undefined ? {} : { hint });
}

export async function forgetFailure({ folder }: Spool, name: string): Promise<void> {
  await unlessAbsent(unlink(join(folder, `${name}.error`)));
}

/** The files of which there is a note, of whatever kind. */
export async function notedNames({ folder }: Spool): Promise<Set<string>> {
  const notes = (await readdir(folder)).map((note) => /^([^.].*)\.(?:ok|error)$/.exec(note)?.[1]);
  return new Set(notes.filter((name) => name !== undefined));
}

/** Removes the notes of files that wait no more. */
export async function sweepNotes({ folder }: Spool, waiting: ReadonlySet<string>): Promise<void> {
  for (const note of await readdir(folder)) {
    // A name that begins with a point is a draft of ours.
    const name = /^([^.].*)\.(?:ok|error)$/.exec(note)?.[1];
    if (name !== undefined && !waiting.has(name)) await unlessAbsent(unlink(join(folder, note)));
  }
}

/** In one step, so that nobody reads half of it. */
async function writeNote({ folder }: Spool, note: string, text: string): Promise<void> {
  const draft = join(folder, `.${note}`);
  // A draft that a killed worker left has an old time, which would be the note's.
  await unlessAbsent(unlink(draft));
  await writeFile(draft, text, { mode: 0o600 });
  await rename(draft, join(folder, note));
}

function byUrgency(a: string, b: string): number {
  const [first, second] = [a, b].map((name) => (walFileKind(name) === "history" ? 0 : 1));
  return (first ?? 0) - (second ?? 0) || (a < b ? -1 : 1);
}
