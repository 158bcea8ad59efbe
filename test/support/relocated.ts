import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import type { Programs } from "../../src/postgres/programs.ts";
import { testPrograms } from "./cluster.ts";

export interface Changes {
  /** Extensions that are made of SQL alone: name to script. */
  extensions?: Record<string, string>;
  /** Names of extensions that it lacks. */
  withoutExtensions?: readonly string[];
  /** Names of libraries that it lacks, such as `hstore`. */
  withoutLibraries?: readonly string[];
}

/**
 * The installed PostgreSQL in a folder of its own, changed: a server finds its files by where its program lies. Needs no
 * root, and leaves the installed one as it is. Dispose of it when its servers have stopped.
 */
export async function relocatedPrograms(changes: Changes): Promise<Programs & AsyncDisposable> {
  const programs = await testPrograms();
  const [share = "", lib = ""] = await Promise.all(["--sharedir", "--pkglibdir"].map((of) => ask(programs, of)));
  const root = await mkdtemp(join(tmpdir(), "pgkit-programs-"));
  await chmod(root, 0o755);
  // All three keep their places relative to one another.
  const place = (dir: string) => join(root, relative("/", dir));
  const binDir = place(programs.binDir);
  const [newLib, newShare] = [place(lib), place(share)];
  for (const dir of [binDir, newLib, join(newShare, "extension")]) await mkdir(dir, { recursive: true });
  await link(programs.binDir, binDir, ["postgres"]);
  // A link would lead the server back to where it points.
  await cp(join(programs.binDir, "postgres"), join(binDir, "postgres"));
  const gone = changes.withoutLibraries ?? [];
  await link(lib, newLib, [...gone.map((name) => `${name}.so`), "bitcode"]);
  await link(share, newShare, ["extension"]);
  const lacking = (changes.withoutExtensions ?? []).map((name) => `${name}.control`);
  await link(join(share, "extension"), join(newShare, "extension"), lacking);
  for (const [name, sql] of Object.entries(changes.extensions ?? {})) {
    await writeFile(join(newShare, "extension", `${name}.control`), "default_version = '1.0'\nrelocatable = true\n");
    await writeFile(join(newShare, "extension", `${name}--1.0.sql`), sql);
  }
  return { ...programs, binDir, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}

async function link(from: string, to: string, except: readonly string[]): Promise<void> {
  for (const name of await readdir(from)) {
    if (!except.includes(name)) await symlink(join(from, name), join(to, name));
  }
}

async function ask({ binDir }: Programs, what: string): Promise<string> {
  return (await promisify(execFile)(join(binDir, "pg_config"), [what])).stdout.trim();
}
