import { dirname, resolve } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { configLines, type DatabaseEntry, entryOf, pointEntry } from "./pgbouncer-config.ts";
import { readWhole, replaceFile } from "./replace-file.ts";
import type { EndpointAddress } from "./switcher.ts";

const what = "PgBouncer's configuration file";

/** An entry of `[databases]`, and the file that has it. */
export interface FoundEntry {
  readonly path: string;
  readonly text: string;
  readonly entry: DatabaseEntry;
}

/**
 * The entry of each of these databases, in the file or in those that it includes. Fails with `config` where one has none of
 * its own or several: the entry `*` serves every other application too.
 */
export async function findEntries(configFile: string, databases: readonly string[]): Promise<FoundEntry[]> {
  const all: FoundEntry[] = [];
  await collect(configFile, "", all, []);
  return databases.map((database) => {
    const found = all.filter(({ entry }) => entry.name === database);
    const [first] = found;
    if (first !== undefined && found.length === 1) return first;
    if (first !== undefined) throw severalEntries(database, found);
    const star = all.find(({ entry }) => entry.name === "*");
    throw noEntry(database, configFile, star);
  });
}

/** Writes the entries so that they lead to `to`; gives how to put the files back as they were. */
export async function writeEntries(entries: readonly FoundEntry[], to: EndpointAddress): Promise<() => Promise<void>> {
  const written: { path: string; before: string; after: string }[] = [];
  const putBack = async () => {
    for (const { path, before, after } of written.toReversed()) await replaceFile(path, after, before, what);
  };
  for (const path of new Set(entries.map((found) => found.path))) {
    const here = entries.filter((found) => found.path === path);
    const before = here[0]?.text ?? "";
    // From the end, so that the places of those in front stay right.
    const after = here
      .toSorted((a, b) => b.entry.start - a.entry.start)
      .reduce((text, { entry }) => pointEntry(text, entry, to), before);
    if (after === before) continue;
    try {
      await replaceFile(path, before, after, what);
    } catch (error) {
      await putBack();
      throw error;
    }
    written.push({ path, before, after });
  }
  return putBack;
}

/** Gives the section that the file ends in: as PgBouncer reads it, what follows the include goes on in that one. */
async function collect(path: string, section: string, all: FoundEntry[], above: readonly string[]): Promise<string> {
  if (above.includes(path)) {
    throw new PgkitError("config", `${what} ${path} includes itself`, { hint: "remove that %include" });
  }
  const text = await readWhole(path, what);
  let current = section;
  for (const line of configLines(text)) {
    if (line.type === "section") current = line.name;
    // PgBouncer opens a relative one from its own working folder, which is not known here: mostly that of its file.
    else if (line.type === "include")
      current = await collect(resolve(dirname(path), line.name), current, all, [...above, path]);
    else if (current === "databases") all.push({ path, text, entry: entryOf(line, path) });
  }
  return current;
}

function severalEntries(database: string, found: readonly FoundEntry[]): PgkitError {
  return new PgkitError(
    "config",
    `the database ${database} of PgBouncer has ${found.length} entries, in ${[...new Set(found.map(({ path }) => path))].join(" and ")}`,
    { hint: "keep the one that counts: PgBouncer takes the last" },
  );
}

function noEntry(database: string, configFile: string, star: FoundEntry | undefined): PgkitError {
  if (star === undefined) {
    return new PgkitError("config", `${what} ${configFile} has no database ${database} in [databases]`, {
      hint: "name the entries to be switched in switch.pgbouncer.databases, and the file that PgBouncer reads in configFile",
    });
  }
  const { host, port } = star.entry;
  return new PgkitError(
    "config",
    `PgBouncer serves the database ${database} by its entry *, in ${star.path}, which every other database goes by too`,
    {
      hint: `give it an entry of its own, as in: ${database} = ${host === undefined ? "" : `host=${host} `}port=${port}; then RELOAD`,
    },
  );
}
