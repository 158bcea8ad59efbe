import { afterAll, beforeAll } from "vitest";
import { applicationDatabases } from "./online.ts";
import { type MoveClusters, startMoveClusters } from "./support.ts";

/** The two servers of a test file: started before its tests, and removed after them. */
export function clustersOfFile(options: Parameters<typeof startMoveClusters>[0] = {}): MoveClusters {
  let started: MoveClusters | undefined;
  beforeAll(async () => {
    started = await startMoveClusters(options);
  });
  afterAll(async () => await started?.[Symbol.asyncDispose]());
  const get = () => {
    if (started === undefined) throw new Error("the servers are started by beforeAll");
    return started;
  };
  return {
    get source() {
      return get().source;
    },
    get target() {
      return get().target;
    },
    [Symbol.asyncDispose]: () => get()[Symbol.asyncDispose](),
  };
}

/** Makes the application's database on both, under a name of its own at each call. */
export function newDatabaseOn(clusters: MoveClusters): () => Promise<string> {
  let make: (() => Promise<string>) | undefined;
  return async () => {
    make ??= await applicationDatabases(clusters);
    return await make();
  };
}
