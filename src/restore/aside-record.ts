import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { syncFolder } from "./cluster-claim.ts";

/** How far the restore is for which a data directory was set aside; a file beside both. */
export interface AsideRecord {
  /** What is restored. */
  readonly is: string;
  readonly state: "restoring" | "restored" | "putting-back";
  /** What the restore came to. */
  readonly result?: unknown;
  /** On the way back: what was restored was complete. */
  readonly whole?: boolean;
}

interface Place {
  readonly dataDir: string;
  readonly name: string;
}

/** `undefined` where nothing was set aside under this name, or all of it is over. */
export async function readAside(place: Place): Promise<AsideRecord | undefined> {
  const path = pathOf(place);
  const text = await unlessAbsent(readFile(path, "utf8"));
  if (text === undefined) return undefined;
  try {
    const { is, state, result, whole } = JSON.parse(text);
    const isKnown = state === "restoring" || state === "restored" || state === "putting-back";
    if (typeof is === "string" && isKnown) return { is, state, result, whole: whole === true };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new PgkitError("refused-overwrite", `${path} is not what a restore of pgkit wrote`, {
    hint: "look at what is there; name another by --set-aside NAME",
  });
}

/** Durable, and whole or not at all. */
export async function writeAside(place: Place, record: AsideRecord): Promise<void> {
  const path = pathOf(place);
  const draft = `${path}.draft`;
  await rm(draft, { force: true });
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(record, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await syncFolder(dirname(path));
}

export async function removeAside(place: Place): Promise<void> {
  await rm(pathOf(place), { force: true });
  await syncFolder(dirname(pathOf(place)));
}

/** `data.pgkit-20261129T180000Z-3f9a.json` */
function pathOf({ dataDir, name }: Place): string {
  return join(dirname(dataDir), `${name}.json`);
}
