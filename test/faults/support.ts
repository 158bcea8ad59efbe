import { mkdtempSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect } from "vitest";
import { type Ran, type RunOptions, run } from "../cli/run.ts";
import type { Cluster } from "../support/cluster.ts";

const root = mkdtempSync(join(tmpdir(), "pgkit-faults-"));
afterAll(async () => await rm(root, { recursive: true, force: true }));

/** A new folder that is removed when all tests of the file are over. */
export async function newFolder(): Promise<string> {
  return await mkdtemp(join(root, "t-"));
}

/** Makes a database of which every kind of stored file has something to say. */
export async function makeDatabase(cluster: Cluster, name: string, rows = 200): Promise<void> {
  await cluster.psql(`CREATE DATABASE "${name}"`);
  await cluster.psql(contentOf(rows), name);
}

function contentOf(rows: number): string {
  return `CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text);
    INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, ${rows}) i;
    INSERT INTO orders SELECT i, i, md5(i::text) FROM generate_series(1, ${rows}) i`;
}

/** Something that differs as soon as one row of the database does. */
export async function fingerprint(cluster: Cluster, database: string): Promise<string> {
  return await cluster.psql(
    "SELECT md5(string_agg(c::text || o::text, ',' ORDER BY c.id)) FROM customers c JOIN orders o ON o.customer = c.id",
    database,
  );
}

export async function databasesOf(cluster: Cluster): Promise<string[]> {
  const text = await cluster.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
  return text.split("\n");
}

/** Every file below a folder, by its path in it, the store's own folder for work left out. */
export async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return paths.map((path) => path.slice(folder.length + 1)).sort();
}

export interface ConfigParts {
  /** A folder, or a URL. */
  repository?: string;
  url?: string;
  [more: string]: unknown;
}

/** A configuration with one instance, `shared`; the files for `run`. */
export function configured({ repository, url, ...more }: ConfigParts): Record<string, string> {
  const place = repository?.startsWith("/") ? pathToFileURL(repository).href : repository;
  const instances = url === undefined ? {} : { instances: { shared: { url } } };
  const file = { ...(place === undefined ? {} : { repository: place }), ...instances, ...more };
  return { "pgkit.yaml": JSON.stringify(file) };
}

export interface Refusal {
  args: readonly string[];
  options?: RunOptions;
  status: number;
  code: string;
  /** Each must be in the message: the object, and both values where there are two. */
  names: readonly (string | RegExp)[];
  hint: string | RegExp;
}

/**
 * Runs a command line that must be refused, for people and with --json: the exit status, a message of one line that names
 * what it is about, a hint; nothing on stdout; with --json one document on stderr that says the same.
 */
export async function expectRefusal({ args, options, status, code, names, hint }: Refusal): Promise<void> {
  const json = await run([...args, "--json"], options);
  const text = await run(args, options);
  const { error } = errorOf(json);
  expect({ status: json.status, stdout: json.stdout, code: error.code, said: error.message }).toEqual({
    ...{ status, stdout: "", code, said: error.message },
  });
  for (const name of names) {
    if (typeof name === "string") expect(error.message).toContain(name);
    else expect(error.message).toMatch(name);
  }
  expect(error.message).not.toContain("\n");
  if (typeof hint === "string") expect(error.hint).toContain(hint);
  else expect(error.hint).toMatch(hint);
  expect({ status: text.status, stdout: text.stdout }).toEqual({ status, stdout: "" });
  expect(text.stderr).toMatch(/^pgkit: [^\n]+\nhint: [^\n]+\n$/m);
}

/** The error document of a run with --json: the last line on stderr, after its warnings. */
export function errorOf(ran: Pick<Ran, "stderr">): { error: { code: string; message: string; hint: string } } {
  const lines = ran.stderr.trimEnd().split("\n");
  const document: unknown = JSON.parse(lines.at(-1) ?? "");
  expect(document).toEqual({
    error: { code: expect.any(String), message: expect.any(String), hint: expect.any(String) },
  });
  return document as { error: { code: string; message: string; hint: string } };
}

/** Runs a command line that must do its work; gives what it printed with --json. */
export async function succeed(args: readonly string[], options?: RunOptions): Promise<Record<string, unknown>> {
  const ran = await run([...args, "--json"], options);
  expect(`${ran.status} ${ran.stderr}`).toMatch(/^0 /);
  return JSON.parse(ran.stdout);
}

/** Numbers in [0, 1) that are the same in every run of a test with the same seed. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
