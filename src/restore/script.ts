import { PgkitError } from "../lib/errors.ts";
import { toolInput } from "../postgres/tools.ts";
import { readSmallFile } from "../repo/files.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RestoreDependencies } from "./database.ts";
import { restoreTarget } from "./target.ts";

export interface Script {
  backup: Manifest;
  role: "roles" | "database" | "settings";
  /** psql variables, `name=value`. */
  variables: readonly string[];
  /** The database to be connected to. */
  database: string;
  /** SQL to run after the file, by the same psql. */
  andThen?: string;
  /** Goes on to its end whatever the signal says. */
  uninterrupted?: true;
}

/** Runs one of the backup's SQL files by psql, stopping at its first error. */
export async function runScript(
  { backup, role, variables, database, andThen = "", uninterrupted }: Script,
  { repository, programs, connection, signal }: RestoreDependencies,
): Promise<void> {
  const file = backup.files.find((each) => each.role === role);
  if (file === undefined) {
    throw new PgkitError("manifest-corrupt", `backup ${backup.id} has no file of role ${role}`, {
      hint: "run pgkit verify on it, and restore from another backup",
    });
  }
  const script = await readSmallFile(repository, file, { signal });
  const assignments = ["ON_ERROR_STOP=1", ...variables].map((assignment) => `--set=${assignment}`);
  const target = restoreTarget({ programs, connection, database, signal: uninterrupted ? undefined : signal });
  await toolInput(
    target,
    "psql",
    ["-X", "-q", "-w", ...assignments, "-f", "-"],
    one(Buffer.concat([script, Buffer.from(andThen)])),
  );
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
