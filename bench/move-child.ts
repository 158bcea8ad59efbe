import { secret } from "../src/lib/secret.ts";
import { systemClock } from "../src/lib/time.ts";
import type { MoveContext, MoveServer, Step } from "../src/move/step.ts";
import { buildIndexesStep } from "../src/move/steps/build-indexes.ts";
import { copyDataStep } from "../src/move/steps/copy-data.ts";
import { copyRolesStep } from "../src/move/steps/copy-roles.ts";
import { copySchemaStep } from "../src/move/steps/copy-schema.ts";
import { createDatabaseStep } from "../src/move/steps/create-database.ts";
import { parseConnection } from "../src/postgres/connection.ts";
import { findPrograms } from "../src/postgres/programs.ts";
import { withSession } from "../src/postgres/session.ts";

/** A process of its own: the steps of an offline move that copy, from one server to another, with what each of them took. */
const [sourceUrl = "", targetUrl = "", binDir = ""] = process.argv.slice(2);
const programs = (await findPrograms([binDir])).find((each) => each.binDir === binDir);
if (programs === undefined) throw new Error(`no programs in ${binDir}`);
const plans = new Map<string, unknown>();
const sides = { source: sideOf("source", sourceUrl), target: sideOf("target", targetUrl) };
const context = {
  move: {
    id: "20261129T180000Z-0001",
    ...{ application: undefined, database: "big", mode: "offline" },
    source: { instance: "source", systemId: "1", major: programs.major },
    target: { instance: "target", systemId: "2", major: programs.major },
    options: { maxBlockMs: undefined, jobs: 2, reverseFeed: false, backupMaxAgeMs: 0, rollbackWindowMs: 0 },
  },
  ...sides,
  switchers: [],
  session: (side, use, database = "big") => withSession(sides[side].connection, { database }, use),
  programs: async () => programs,
  planOf: <P>({ name }: { name: string }) => plans.get(name) as P | undefined,
  resultOf: () => undefined,
  clock: systemClock,
  report: () => undefined,
  signal: new AbortController().signal,
} as Omit<MoveContext, "repository"> as MoveContext;

await run(copyRolesStep);
await run(createDatabaseStep);
await run(copySchemaStep);
await run(copyDataStep);
await run(buildIndexesStep);

async function run<P, R>(step: Step<P, R>): Promise<void> {
  const started = performance.now();
  plans.set(step.name, await step.prepare?.(context));
  await step.run(context, plans.get(step.name) as P);
  console.error(`${step.name}: ${((performance.now() - started) / 1000).toFixed(2)} s`);
}

function sideOf(instance: string, url: string): MoveServer {
  const { PGPASSWORD: password = "" } = process.env;
  const connection = { ...parseConnection(url, secret(password)), database: "postgres" };
  return { instance, connection, peer: connection, endpoint: { host: "127.0.0.1", port: 0 } };
}
