import { constants, copyFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { type ErrorCode, PgkitError } from "../lib/errors.ts";
import type { Programs } from "../postgres/programs.ts";
import { processOptions, type RunAs } from "../postgres/run-as.ts";
import type { Places } from "./cluster-places.ts";

interface Run {
  runAs: RunAs | undefined;
  signal: AbortSignal;
}

/** Runs pg_verifybackup on a restored backup. Fails with `verification-failed` and what it said. */
export async function verifyBackupFolder(
  programs: Programs,
  dataDir: string,
  { backup, runAs, signal }: Run & { backup: string },
): Promise<void> {
  // WAL is verified where it is read. A map of tablespaces names the places of before, so a restore changes or removes it.
  const args = ["--quiet", "--no-parse-wal", "--ignore=tablespace_map", dataDir];
  await runProgram(programs, "pg_verifybackup", args, { runAs, signal }, "verification-failed", `backup ${backup}`);
}

/** Puts a full backup and the incremental ones on it together, as `output`, which must not be there. */
export async function combineBackups(
  programs: Programs,
  links: readonly Places[],
  output: Places,
  { runAs, signal }: Run,
): Promise<void> {
  const last = links.at(-1);
  const mapping = output.tablespaces.flatMap(({ oid, to }) => {
    const from = last?.tablespaces.find((each) => each.oid === oid)?.to ?? "";
    return ["--tablespace-mapping", `${escaped(from)}=${escaped(to)}`];
  });
  const how = await howToCopy(programs, join(output.dataDir, ".."));
  // What follows makes all durable at once.
  const args = [...how, "--no-sync", ...mapping, "--output", output.dataDir, ...links.map(({ dataDir }) => dataDir)];
  await runProgram(
    programs,
    "pg_combinebackup",
    args,
    { runAs, signal },
    "tool-failed",
    `the chain into ${output.dataDir}`,
  );
}

/** The links are removed afterwards, so that the result may share their files. */
async function howToCopy({ major }: Programs, folder: string): Promise<string[]> {
  if (major >= 18) return ["--link"];
  const [one, two] = [join(folder, "clone-1"), join(folder, "clone-2")];
  await writeFile(one, "");
  try {
    await copyFile(one, two, constants.COPYFILE_FICLONE_FORCE);
    return ["--clone"];
  } catch {
    // File systems say in many ways that they cannot share blocks; then the kernel copies.
    return process.platform === "linux" ? ["--copy-file-range"] : [];
  } finally {
    await rm(one, { force: true });
    await rm(two, { force: true });
  }
}

/** An equals sign in a directory's name would end it. */
function escaped(dir: string): string {
  return dir.replaceAll("=", "\\=");
}

async function runProgram(
  { binDir, major }: Programs,
  program: string,
  args: readonly string[],
  { runAs, signal }: Run,
  code: ErrorCode,
  about: string,
): Promise<void> {
  const result = await execa(join(binDir, program), args, {
    ...processOptions(runAs),
    cancelSignal: signal,
    stdin: "ignore",
    all: true,
    reject: false,
  });
  if (!result.failed) return;
  signal.throwIfAborted();
  if (result.code === "ENOENT") {
    throw new PgkitError("tool-missing", `${program} of PostgreSQL ${major} is not in ${binDir}`, {
      hint: `install the server's package of PostgreSQL ${major}`,
    });
  }
  const said = (result.all || result.message || "").trim().split("\n").slice(-5).join(" | ");
  const full = /No space left on device|Disk quota exceeded/.test(said);
  throw new PgkitError(full ? "disk-full" : code, `${program} for ${about} failed: ${said}`, {
    hint: full ? "free space there and run the same command again" : "pgkit verify tells which backups are whole",
  });
}
