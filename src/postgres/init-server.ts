import { randomBytes } from "node:crypto";
import { appendFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { PgkitError } from "../lib/errors.ts";
import { claimEmptyFolder, privateFolder, processOptions, type RunAs, refuseRoot, writePrivateFile } from "./run-as.ts";

export interface InitServerOptions {
  /** The folder of the programs of the server's major. */
  binDir: string;
  /** Made where missing; must be empty. The folders above it must be open to `runAs`. */
  dataDir: string;
  runAs?: RunAs | undefined;
  /** Written to postgresql.conf. */
  settings?: Record<string, string>;
  /** Of the cluster; by default `C.UTF-8`. The encoding is always UTF-8. */
  locale?: string;
  checksums?: boolean;
  /** The superuser's name, by default `postgres`. */
  superuser?: string;
  /** Its password; a random one when left out. */
  password?: string;
  /** False only for data that may be lost: nothing waits for the disk. */
  sync?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Makes the data directory of a new server whose every user, also on the socket, logs in with a SCRAM password; gives
 * the superuser's. Fails with `refused-overwrite` when the folder is not empty, with `tool-failed` when initdb fails.
 */
export async function initServer(options: InitServerOptions): Promise<{ superuser: string; password: string }> {
  refuseRoot(options.runAs);
  await claimEmptyFolder(options.dataDir, options.runAs);
  const superuser = options.superuser ?? "postgres";
  const password = options.password ?? randomBytes(24).toString("base64url");
  const folder = await privateFolder(options.runAs);
  try {
    const pwfile = join(folder, "password");
    await writePrivateFile(pwfile, `${password}\n`, options.runAs);
    await runInitdb(options, superuser, pwfile);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  await writeSettings(options.dataDir, options.settings ?? {});
  return { superuser, password };
}

async function runInitdb(options: InitServerOptions, superuser: string, pwfile: string): Promise<void> {
  const args = ["--pgdata", options.dataDir, "--username", superuser, "--pwfile", pwfile, "--auth", "scram-sha-256"];
  args.push("--encoding", "UTF8", "--locale", options.locale ?? "C.UTF-8", "--lc-messages", "C");
  if (options.checksums) args.push("--data-checksums");
  if (options.sync === false) args.push("--no-sync");
  const initdb = await execa(join(options.binDir, "initdb"), args, {
    ...processOptions(options.runAs),
    ...(options.signal && { cancelSignal: options.signal }),
    all: true,
    reject: false,
  });
  if (initdb.isCanceled) throw new PgkitError("cancelled", `making a server in ${options.dataDir} was cancelled`);
  if (!initdb.failed) return;
  const why = (initdb.all || initdb.message || "").trim().split("\n").slice(-5).join("\n");
  throw new PgkitError("tool-failed", `initdb could not make a server in ${options.dataDir}: ${why}`, {
    hint: "is the folder above it open to the user that the server runs as, and the locale installed?",
    cause: initdb,
  });
}

/** Appended as root the file stays initdb's, 0600: the later of two settings of one name counts. */
async function writeSettings(dataDir: string, settings: Record<string, string>): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quoted(value)}\n`);
  await appendFile(join(dataDir, "postgresql.conf"), lines.join(""));
}

/** A value in postgresql.conf: both quote and backslash are written twice, as ALTER SYSTEM does. */
function quoted(value: string): string {
  if (/[\r\n]/.test(value)) throw new PgkitError("usage", "a setting of PostgreSQL cannot span lines");
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
