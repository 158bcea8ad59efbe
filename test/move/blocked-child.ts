import { closeDatabase } from "../../src/move/close-database.ts";
import type { Cluster } from "../support/cluster.ts";
import { testMove } from "./support.ts";

/** A pgkit that blocks writes, says so, and is killed then. Its argument is what it needs to know, as JSON. */
const { cluster, database, maxBlockMs } = JSON.parse(process.argv[2] ?? "");
const here: Cluster = { ...cluster, psql: async () => "1" };
const { context } = await testMove(
  { source: here, target: here, [Symbol.asyncDispose]: async () => undefined },
  {
    ...{ database, maxBlockMs, pooled: true },
  },
);
await closeDatabase(context, "source", 20);
process.stdout.write("blocked\n");
setInterval(() => undefined, 1000);
