import { access, constants, readdir, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { execa } from "execa";
import { PgkitError } from "../lib/errors.ts";

/** One installation of PostgreSQL's programs. */
export interface Programs {
  major: number;
  /** As the programs say it, e.g. `15.18`. */
  version: string;
  binDir: string;
  /** False where only the client programs are installed. */
  server: boolean;
}

/** Where packages put each major beside the others: Debian and Ubuntu, Red Hat and SUSE. */
const packagedPlaces = [
  { dir: "/usr/lib/postgresql", major: /^\d+$/ },
  { dir: "/usr", major: /^pgsql-\d+$/ },
  { dir: "/usr/lib", major: /^postgresql\d+$/ },
];

/**
 * Every installation of PostgreSQL's programs: those of the packages and those in `extraDirs` (configured folders, the
 * entries of PATH), newest first; of two of the same version the one in `extraDirs` first. Empty when there is none.
 */
export async function findPrograms(extraDirs: readonly string[]): Promise<Programs[]> {
  const dirs = [...extraDirs];
  for (const place of packagedPlaces) {
    const names = (await entries(place.dir)).filter((name) => place.major.test(name));
    dirs.push(...names.map((name) => join(place.dir, name, "bin")));
  }
  const unique = [...new Set(dirs)];
  const found = await Promise.all(unique.map((dir) => programsIn(dir)));
  return found.filter((programs) => programs !== undefined).sort((a, b) => compareVersions(b.version, a.version));
}

/**
 * The programs of exactly this major (a dump is made and restored by those of the server's own), the newest minor
 * first; with `server`, those that can also run one. Fails with `tool-missing`.
 */
export async function programsFor(
  major: number,
  extraDirs: readonly string[],
  options: { server?: boolean } = {},
): Promise<Programs> {
  const all = await findPrograms(extraDirs);
  const match = all.find((programs) => programs.major === major && (programs.server || options.server !== true));
  if (match !== undefined) return match;
  const what = options.server ? "server programs" : "client programs";
  const have = all.map((programs) => `${programs.version} in ${programs.binDir}`).join(", ") || "none";
  throw new PgkitError("tool-missing", `the ${what} of PostgreSQL ${major} are not installed (found: ${have})`, {
    hint: `install the package postgresql-${options.server ? "" : "client-"}${major}`,
  });
}

async function programsIn(dir: string): Promise<Programs | undefined> {
  const pgDump = join(dir, "pg_dump");
  if (!(await isExecutable(pgDump))) return undefined;
  // Debian's /usr/bin/pg_dump is a wrapper that picks a major by itself: the real ones are in the packaged places.
  if (basename(await realpath(pgDump)) === "pg_wrapper") return undefined;
  const { stdout } = await execa(pgDump, ["--version"]);
  const version = /\(PostgreSQL\) (\S+)/.exec(stdout)?.[1];
  const major = Number.parseInt(version ?? "", 10);
  if (version === undefined || Number.isNaN(major)) {
    throw new PgkitError("tool-failed", `${pgDump} --version does not name a version: ${stdout}`);
  }
  return { major, version, binDir: dir, server: await isExecutable(join(dir, "postgres")) };
}

async function entries(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    // EACCES: an entry of PATH that is closed to this user holds no program for it.
    if (isMissing(error) || hasCode(error, "EACCES")) return false;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR");
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** `18beta1` counts as 18.-1: older than 18.0. */
function compareVersions(a: string, b: string): number {
  const [majorA, minorA] = numbers(a);
  const [majorB, minorB] = numbers(b);
  return majorA - majorB || minorA - minorB;
}

function numbers(version: string): [number, number] {
  const [major = "0", minor = "-1"] = version.split(".");
  return [Number.parseInt(major, 10), Number.parseInt(minor, 10)];
}
