import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import type { Programs } from "../../postgres/programs.ts";
import type { ServerFacts } from "../../postgres/server-facts.ts";
import type { Ledger } from "../ledger.ts";

const oldestMajor = 15;
const newestMajor = 18;

/** Those that backups and restores run. */
const clientPrograms = ["pg_dump", "pg_restore", "psql", "vacuumdb"];

export async function checkVersion(ledger: Ledger, { version, major }: Pick<ServerFacts, "version" | "major">) {
  await ledger.run("version", async (found) => {
    const supported = `PostgreSQL ${oldestMajor} to ${newestMajor}`;
    if (major >= oldestMajor && major <= newestMajor) return found.ok(`${version} is in support`);
    if (major > newestMajor)
      return found.warning(`${version} is newer than what this pgkit knows (${supported})`, "update pgkit");
    found.error(
      `${version} is older than what pgkit supports (${supported})`,
      "upgrade the server by pg_upgrade or a dump",
    );
  });
}

/** A dump is made and restored by the programs of the server's own major; a scratch server needs the server's too. */
export async function checkPrograms(
  ledger: Ledger,
  { major }: Pick<ServerFacts, "major">,
  { programsFor }: { programsFor(major: number, options: { server: boolean }): Promise<Programs> },
): Promise<void> {
  await ledger.run("programs", async (found) => {
    const programs = await programsFor(major, { server: false });
    const missing: string[] = [];
    for (const name of clientPrograms) if (!(await isThere(join(programs.binDir, name)))) missing.push(name);
    if (missing.length > 0) {
      const message = `${programs.binDir} has ${programs.version}, but no ${missing.join(", ")}`;
      throw new PgkitError("tool-missing", message, { hint: `install the package postgresql-client-${major}` });
    }
    found.ok(`${clientPrograms.join(", ")} ${programs.version} in ${programs.binDir}`);
  });
  await ledger.run(
    "server programs",
    async (found) => {
      const { version, binDir } = await programsFor(major, { server: true });
      found.ok(`${version} in ${binDir}, for verify --deep`);
    },
    { failsAs: "warning" },
  );
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "EACCES") return false;
    throw error;
  }
}
