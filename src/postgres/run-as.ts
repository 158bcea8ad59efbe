import { chmod, chown, mkdir, open, readdir, readFile } from "node:fs/promises";
import { PgkitError } from "../lib/errors.ts";
import { newScratchFolder } from "../lib/scratch.ts";

/** Whom a server's programs run as: PostgreSQL refuses to run as root. */
export interface RunAs {
  uid: number;
  gid: number;
}

/**
 * Whom root can run a server as: the account `postgres`, else `nobody`. `undefined` when this process is not root, and
 * so runs servers as itself. Fails with `tool-missing` when there is neither account.
 */
export async function unprivilegedUser(): Promise<RunAs | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  for (const wanted of ["postgres", "nobody"]) {
    const account = accounts.find(([name]) => name === wanted);
    const [uid, gid] = [Number(account?.[2]), Number(account?.[3])];
    if (uid > 0 && gid > 0) return { uid, gid };
  }
  throw new PgkitError("tool-missing", "/etc/passwd has neither the account postgres nor nobody to run a server as", {
    hint: "install PostgreSQL's server package, or run this as an ordinary user",
  });
}

/** Fails with `usage` when a server would run as root, which it refuses in words that do not help. */
export function refuseRoot(runAs: RunAs | undefined): void {
  if (runAs !== undefined || process.getuid?.() !== 0) return;
  throw new PgkitError("usage", "a PostgreSQL server cannot run as root", { hint: "run this as an ordinary user" });
}

/**
 * What every program of a server is started with: whom it runs as, a folder that this user can read, and none of our
 * environment (PGDATA or PGPORT would change what it does).
 */
export function processOptions(runAs: RunAs | undefined) {
  const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  return { ...(runAs ?? {}), cwd: "/", extendEnv: false, env: { PATH: path, LC_ALL: "C.UTF-8" } };
}

/** A new folder for temporary files (0700) that belongs to `runAs`, in TMPDIR or `parent`; the caller removes it. */
export async function privateFolder(runAs: RunAs | undefined, parent?: string): Promise<string> {
  // A socket's path may have 107 bytes: the name is short.
  const folder = await newScratchFolder("pgkit-", parent);
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  return folder;
}

/** Makes `dir` (0700, of `runAs`) where it is missing. Fails with `refused-overwrite` when something is in it. */
export async function claimEmptyFolder(dir: string, runAs: RunAs | undefined): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if ((await readdir(dir)).length > 0) {
    throw new PgkitError("refused-overwrite", `the folder ${dir} is not empty`, { hint: "name a new or empty folder" });
  }
  await chmod(dir, 0o700);
  if (runAs !== undefined) await chown(dir, runAs.uid, runAs.gid);
}

/** Writes a new file that only `runAs` can read. */
export async function writePrivateFile(path: string, text: string, runAs: RunAs | undefined): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    if (runAs !== undefined) await file.chown(runAs.uid, runAs.gid);
    await file.writeFile(text);
  } finally {
    await file.close();
  }
}
