import { secret } from "../../src/lib/secret.ts";
import { buildIndexesStep } from "../../src/move/steps/build-indexes.ts";
import { copyDataStep } from "../../src/move/steps/copy-data.ts";
import { copyRolesStep } from "../../src/move/steps/copy-roles.ts";
import { copySchemaStep } from "../../src/move/steps/copy-schema.ts";
import { createDatabaseStep } from "../../src/move/steps/create-database.ts";
import type { Switcher } from "../../src/switch/switcher.ts";
import type { Cluster } from "../support/cluster.ts";
import { type Description, describeDatabase } from "../support/describe.ts";
import type { TestMove } from "./support.ts";

export const copySteps = {
  "copy-roles": copyRolesStep,
  "create-database": createDatabaseStep,
  "copy-schema": copySchemaStep,
  "copy-data": copyDataStep,
  "build-indexes": buildIndexesStep,
} as const;

type StepName = keyof typeof copySteps;

/** Runs the steps that copy, in their order, up to and with `last`. */
export async function copyUntil(move: TestMove, last: StepName = "build-indexes"): Promise<void> {
  const names = Object.keys(copySteps) as StepName[];
  for (const name of names.slice(0, names.indexOf(last) + 1)) {
    if (name !== "copy-data" || move.context.move.mode === "offline") await move.run<unknown, unknown>(copySteps[name]);
  }
}

/** The other way, as far as steps have begun. */
export async function undoAll(move: TestMove): Promise<void> {
  for (const step of Object.values(copySteps).toReversed()) await move.undo<unknown, unknown>(step);
}

/** What a copy must have of a database; the rest another step sees to. */
export async function copied(
  cluster: Cluster,
  database: string,
): Promise<Pick<Description, "schema" | "rows" | "largeObjects">> {
  const { schema, rows, largeObjects } = await describeDatabase(cluster, database);
  return { schema, rows, largeObjects };
}

/** Something that knows by which password the application comes. */
export function knowsPassword(user: string, password: string): Switcher {
  return {
    where: "a file of the test",
    kind: "env-file",
    current: async () => ({ host: "127.0.0.1", port: 1, database: "litellm", user, password: secret(password) }),
    point: async () => undefined,
  };
}
