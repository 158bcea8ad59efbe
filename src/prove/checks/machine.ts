import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/parse.ts";
import type { Found, Ledger } from "../ledger.ts";

/** Below this the sockets and settings of a scratch server may still fit, but not its databases. */
const littleScratchBytes = 1024 ** 3;

/** What every command needs of the machine that pgkit runs on. */
export async function checkMachine(
  ledger: Ledger,
  { scratchFolder, timeZone }: { scratchFolder: string; timeZone: string },
): Promise<void> {
  await ledger.run("scratch folder", (found) => scratch(found, scratchFolder));
  await ledger.run("time zone", async (found) => {
    const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
    found.ok(
      `times are shown and read in ${timeZone}${here === timeZone ? "" : `; the zone of this machine is ${here}`}`,
    );
  });
}

async function scratch(found: Found, folder: string): Promise<void> {
  try {
    const inside = await mkdtemp(join(folder, "pgkit-check-"));
    try {
      await writeFile(join(inside, "file"), "a file of pgkit check\n");
    } finally {
      await rm(inside, { recursive: true, force: true });
    }
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    const full = cause instanceof Error && "code" in cause && cause.code === "ENOSPC";
    throw new PgkitError(full ? "disk-full" : "check-failed", `nothing can be written to ${folder}: ${said}`, {
      hint: "set TMPDIR to a folder with some space that this user may write to",
      cause,
    });
  }
  const { bavail, bsize } = await statfs(folder);
  const freeBytes = bavail * bsize;
  const message = `${folder} can be written to and has ${formatBytes(freeBytes)} free`;
  if (freeBytes >= littleScratchBytes) return found.ok(message);
  found.warning(message, "verify --deep restores into it: set TMPDIR to a folder with room for the biggest database");
}
