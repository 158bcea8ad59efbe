import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { expect } from "vitest";
import { runProgram, type StartOptions, startProgram } from "../faults/process.ts";
import { applicationUrl, type MoveClusters, makeApplication, startMoveClusters } from "../move/support.ts";
import { startWriter, type Writer } from "../move/writer.ts";
import type { ClusterOptions } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

/** Two instances, an application on the first that reads where its database is from a file, and pgkit. */
export interface MoveStory extends MoveClusters {
  pgkit: Pgkit;
  /** The application's environment file, with its DATABASE_URL. */
  envFile: string;
  startWriter(name?: string): Writer;
  /** Fails unless the database is on this side alone, and holds every acknowledged row once and in order. */
  expectAll(writers: readonly Writer[], side: "source" | "target"): Promise<void>;
  /** pgkit in a process of its own. */
  start(args: readonly string[]): ReturnType<typeof startProgram>;
  runToEnd(args: readonly string[]): ReturnType<typeof runProgram>;
}

const program = join(import.meta.dirname, "..", "support", "pgkit-process.ts");

export interface StoryOptions {
  source?: ClusterOptions;
  target?: ClusterOptions;
  /** Lines of `switch:` in place of the environment file's. */
  switch?: (folder: string, clusters: MoveClusters) => Promise<readonly string[]>;
  /** Where the application connects in place of what the environment file says. */
  url?: () => string;
}

export async function startStory(options: StoryOptions = {}): Promise<MoveStory> {
  const clusters = await startMoveClusters(options);
  const folder = await mkdtemp(join(tmpdir(), "pgkit-app-"));
  const envFile = join(folder, "app.env");
  await makeApplication(clusters.source);
  await writeFile(envFile, `# the application\nLOG=info\nDATABASE_URL=${applicationUrl(clusters.source, "litellm")}\n`);
  const ownSwitch = [`envFile: { path: ${envFile}, keys: { url: DATABASE_URL } }`];
  const lines = (await options.switch?.(folder, clusters)) ?? ownSwitch;
  const pgkit = await pgkitFor({ shared: { cluster: clusters.source }, own: { cluster: clusters.target } }, [
    ...["applications:", "  litellm:", "    instance: shared", "    dedicated: own", "    switch:"],
    ...lines.map((line) => `      ${line}`),
  ]);
  // As Node's own --env-file reads it.
  const url = options.url ?? (() => parseEnv(readFileSync(envFile, "utf8"))["DATABASE_URL"] ?? "");
  const writers: Writer[] = [];
  const started: StartOptions = { files: { "pgkit.yaml": pgkit.yaml } };
  return {
    ...{ ...clusters, pgkit, envFile },
    startWriter: (name = "writer") => {
      const writer = startWriter({ url, name });
      writers.push(writer);
      return writer;
    },
    expectAll: async (finished, side) => {
      for (const writer of finished) await writer.stop();
      for (const writer of finished) await expectEveryRow(clusters[side], writer);
    },
    start: (args) => startProgram(program, args, started),
    runToEnd: (args) => runProgram(program, args, started),
    [Symbol.asyncDispose]: async () => {
      for (const writer of writers) await writer.stop();
      await clusters[Symbol.asyncDispose]();
      await pgkit[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Acknowledged is there, once, and in the order in which it was written; a commit that was not answered may be there. */
export async function expectEveryRow(cluster: MoveClusters["source"], { acknowledged, name }: Writer): Promise<void> {
  const rows = await cluster.psql(`SELECT n FROM ledger WHERE writer = '${name}' ORDER BY id`, "litellm");
  const found = rows.split("\n").filter(Boolean).map(Number);
  const there = new Set(found);
  expect(
    acknowledged.filter((n) => !there.has(n)),
    "acknowledged and lost",
  ).toEqual([]);
  expect(found.length, "doubled").toBe(there.size);
  expect(found, "in order").toEqual(found.toSorted((a, b) => a - b));
}
