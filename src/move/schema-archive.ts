import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { scratchError } from "../lib/scratch.ts";
import { ownedScratchFolder, removeOwnedScratch } from "../lib/scratch-folder.ts";
import { collect } from "../lib/streams.ts";
import type { Session } from "../postgres/session.ts";
import { runTool, type ToolTarget, toolOutput } from "../postgres/tools.ts";
import { connectionString } from "../restore/load.ts";
import type { MoveContext } from "./step.ts";
import { sourceFor, targetOf } from "./target-database.ts";

/** One line of the table of contents of an archive of the schema. */
export interface SchemaEntry {
  /** The line for `--use-list`. */
  line: string;
  /** Of what it makes, on the source; 0 where that is no object of its own. */
  classId: number;
  oid: number;
  /** Such as `FK CONSTRAINT`; the longest known description that the entry begins with. */
  type: string;
}

/** The schema of the source's database, in a file of its own; without large objects and subscriptions. */
export interface SchemaArchive {
  /** Of the sections, in the order of the archive. */
  list(section: "pre-data" | "post-data"): Promise<SchemaEntry[]>;
  /** Loads these entries, in the archive's order; `jobs` at once where they do not depend on each other. */
  load(entries: readonly SchemaEntry[], options?: { jobs?: number; settings?: Record<string, string> }): Promise<void>;
}

/** How long DDL of the application may hold up the dump of the schema, and the dump the DDL that comes after it. */
const lockWaitMs = 60_000;

/** Dumps the schema of the source by the programs of the target's major, for as long as `use` runs. */
export async function withSchemaArchive<T>(
  context: MoveContext,
  use: (archive: SchemaArchive) => Promise<T>,
): Promise<T> {
  const folder = await ownedScratchFolder("pgkit-move-");
  try {
    const file = join(folder, "schema.dump");
    const source = await sourceFor(context);
    const sections = ["--section=pre-data", "--section=post-data"];
    const format = ["--format=custom", `--file=${file}`, "--no-password", `--lock-wait-timeout=${lockWaitMs}`];
    await runTool(source, "pg_dump", [...format, ...sections, "-B", "--no-subscriptions"]);
    return await use(await archiveIn(context, folder, file));
  } catch (error) {
    throw scratchError(error);
  } finally {
    await removeOwnedScratch(folder);
  }
}

async function archiveIn(context: MoveContext, folder: string, file: string): Promise<SchemaArchive> {
  const noTablespaces = (await missingTablespaces(context)).length > 0 ? ["--no-tablespaces"] : [];
  let lists = 0;
  const load: SchemaArchive["load"] = async (entries, { jobs = 1, settings = {} } = {}) => {
    if (entries.length === 0) return;
    const target = await targetOf(context, context.move.database, { synchronous_commit: "off", ...settings });
    const list = join(folder, `${lists++}.list`);
    await writeFile(list, `${entries.map(({ line }) => line).join("\n")}\n`, { mode: 0o600 });
    const args = ["--exit-on-error", "--no-password", ...noTablespaces, `--use-list=${list}`, `--jobs=${jobs}`];
    await runTool(target, "pg_restore", [...args, connectionString(target.database), file]);
  };
  return { load, list: async (section) => listEntries(await targetOf(context), file, section) };
}

async function listEntries(target: ToolTarget, file: string, section: string): Promise<SchemaEntry[]> {
  const output = await collect(toolOutput(target, "pg_restore", ["--list", `--section=${section}`, file]));
  const text = output.toString("utf8");
  return text.split("\n").flatMap((line) => {
    const [, classId, oid, rest = ""] = /^\d+; (\d+) (\d+) (.+)$/.exec(line) ?? [];
    if (classId === undefined || oid === undefined) return [];
    return [{ line, classId: Number(classId), oid: Number(oid), type: typeOf(rest) }];
  });
}

/** A description is one to six words in capitals; what comes after it, such as a schema's name, can be in capitals too. */
const longTypes = [
  ...[
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX ATTACH",
    "TABLE ATTACH",
    "MATERIALIZED VIEW DATA",
    "MATERIALIZED VIEW",
  ],
  ...[
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "EVENT TRIGGER",
    "DEFAULT ACL",
    "ROW SECURITY",
    "SECURITY LABEL",
  ],
];

function typeOf(rest: string): string {
  if (/^(COMMENT|SECURITY LABEL) - EVENT TRIGGER /.test(rest)) return "COMMENT ON EVENT TRIGGER";
  return longTypes.find((type) => rest.startsWith(`${type} `)) ?? rest.split(" ", 1)[0] ?? "";
}

/** Of single tables and indexes, those that the target does not have: all then go to the database's own. */
export async function missingTablespaces(context: MoveContext): Promise<string[]> {
  const named = await context.session("source", (session) =>
    session.query<{ name: string }>(
      `SELECT DISTINCT spcname AS name FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace
       WHERE c.oid >= 16384 ORDER BY 1`,
    ),
  );
  return context.session("target", async (session) =>
    missing(
      session,
      named.map(({ name }) => name),
    ),
  );
}

async function missing(session: Session, names: readonly string[]): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    "SELECT name FROM unnest($1::text[]) AS named (name) WHERE NOT EXISTS (SELECT FROM pg_tablespace WHERE spcname = name)",
    [names],
  );
  return rows.map(({ name }) => name);
}
