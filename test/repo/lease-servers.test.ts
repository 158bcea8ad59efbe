import { expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { pruneLease, withLease } from "../../src/repo/lease.ts";
import { isLive, latestTerm, storeTime } from "../../src/repo/lease-term.ts";
import { azureStore } from "../../src/store/azure.ts";
import { s3Store } from "../../src/store/s3.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { startAzurite } from "../support/azurite.ts";
import { startS3 } from "../support/s3.ts";
import { repositoryIn } from "./support.ts";

const servers = [
  { name: "Ceph 16.2, which knows no compare-and-set", open: async () => await s3("old") },
  { name: "Azurite", open: azurite },
];

it.each(servers)("one of eight runs holds a lease, and the server's clock judges it: $name", async ({ open }) => {
  const store = await open();
  const repository = await repositoryIn(store);
  const allOthersLocked = Promise.withResolvers<void>();
  let locked = 0;
  const holds = { term: false };
  const run = async (nth: number) => {
    const holder = { host: "h", pid: nth, command: `run ${nth}` };
    const options = { clock: systemClock, holder, ttlMs: 60_000, report: () => undefined };
    try {
      return await withLease(repository, pruneLease, options, async () => {
        await allOthersLocked.promise;
        const term = await latestTerm(store, pruneLease);
        holds.term = term !== undefined && isLive(term, await storeTime(store, pruneLease, "test"));
        return "in";
      });
    } catch (error) {
      locked += 1;
      if (locked === 7) allOthersLocked.resolve();
      return error;
    }
  };
  const results = await Promise.all(Array.from({ length: 8 }, (_, nth) => run(nth)));
  expect(results.filter((result) => result === "in")).toHaveLength(1);
  for (const result of results) if (result !== "in") expect(result).toMatchObject({ code: "locked" });
  expect(holds.term).toBe(true);
  expect((await latestTerm(store, pruneLease))?.record.released).toBe(true);
});

async function s3(which: "old" | "new"): Promise<ObjectStore> {
  const { endpoint, region, accessKeyId, secretAccessKey, newBucket } = await startS3(which);
  const credentials = { accessKeyId, secretAccessKey };
  return s3Store({ bucket: await newBucket(), region, endpoint, pathStyle: true, credentials });
}

async function azurite(): Promise<ObjectStore> {
  const { endpoint, account, key, newContainer } = await startAzurite();
  return await azureStore({ account, container: await newContainer(), endpoint, credential: { accountKey: key } });
}
