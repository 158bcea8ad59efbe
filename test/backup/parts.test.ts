import { expect, test } from "vitest";
import { type DumpPart, partArguments, planParts } from "../../src/backup/parts.ts";
import type { TableEntry } from "../../src/postgres/database-facts.ts";

const table = (name: string, bytes: number, more: Partial<TableEntry> = {}): TableEntry =>
  ({ oid: 1, schema: "public", name, kind: "r", ofExtension: false, bytes, ...more }) as TableEntry;

const tablesOf = (part: DumpPart) => ("tables" in part ? part.tables.map(({ name }) => name) : []);
const MiB = 1024 ** 2;

test("a small database, or one job, is one archive", () => {
  expect(planParts({ tables: [table("a", MiB)], jobs: 2, wholeBelowBytes: 10 * MiB, encoding: "UTF8" })).toEqual([
    { role: "archive" },
  ]);
  expect(planParts({ tables: [table("a", 100 * MiB)], jobs: 1, wholeBelowBytes: 10 * MiB, encoding: "UTF8" })).toEqual([
    { role: "archive" },
  ]);
});

test("every table's rows are in one part and no more, the rest's in the part that leaves these out", () => {
  const tables = Array.from({ length: 3_000 }, (_, index) => table(`t${index}`, (3_000 - index) * MiB));
  const parts = planParts({ tables, jobs: 4, wholeBelowBytes: MiB, encoding: "UTF8" });
  const named = parts.flatMap(tablesOf);
  expect(new Set(named).size).toBe(named.length);
  const rest = parts.find((part) => "except" in part);
  expect(rest && "except" in rest && rest.except.map(({ name }) => name).toSorted()).toEqual(named.toSorted());
  expect(parts.filter((part) => part.role === "schema")).toHaveLength(1);
});

test("what is an extension's, partitioned or foreign is left to the rest", () => {
  const tables = [
    table("big", 900 * MiB),
    table("spatial", 800 * MiB, { ofExtension: true }),
    table("parent", 0, { kind: "p" }),
  ];
  expect(planParts({ tables, jobs: 2, wholeBelowBytes: MiB, encoding: "UTF8" }).flatMap(tablesOf)).toEqual(["big"]);
});

test("names are literal in pg_dump's patterns, whatever they hold", () => {
  const part: DumpPart = { role: "data", tables: [{ schema: 'we"ird', name: "a.*?$" }] };
  expect(partArguments(part)).toContain('--table="we""ird"."a.*?$"');
});
