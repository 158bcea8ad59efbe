import { expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { type AuditedWork, type AuditRecord, listAudit, withAudit } from "../../src/repo/audit.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { quietRepository, reports, repositoryIn } from "./support.ts";

const some = {
  actor: { who: "alice", from: { host: "ops-1", pid: 4242 } },
  command: "restore",
  subject: "shared/litellm",
  details: { as: "litellm_copy" },
  report: () => undefined,
};

async function all(repository: Repository, since?: Date): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of listAudit(repository, { since })) records.push(record);
  return records;
}

it("tells who did what from where, when it began and how it ended", async () => {
  const { clock, repository } = await quietRepository();
  const work: AuditedWork = { ...some, clock };
  const result = await withAudit(repository, work, async (addDetails) => {
    await clock.advance(5000);
    addDetails({ backup: "litellm-1" });
    return "restored";
  });
  expect(result).toBe("restored");
  const common = { who: "alice", from: { host: "ops-1", pid: 4242 }, command: "restore", subject: "shared/litellm" };
  const [start, end, ...more] = await all(repository);
  expect(more).toEqual([]);
  expect(start).toMatchObject({
    ...common,
    at: "2026-11-21T02:00:00Z",
    result: "started",
    details: { as: "litellm_copy" },
  });
  expect(end).toMatchObject({
    ...common,
    at: "2026-11-21T02:00:05Z",
    result: "ok",
    details: { as: "litellm_copy", backup: "litellm-1" },
  });
  expect(end?.operation).toBe(start?.operation);
});

it("records a failure with its error and passes the error on", async () => {
  const { clock, repository } = await quietRepository();
  const failing = withAudit(repository, { ...some, clock }, async () => {
    throw new PgkitError("refused-overwrite", "database litellm exists");
  });
  await expect(failing).rejects.toMatchObject({ code: "refused-overwrite" });
  expect((await all(repository)).map(({ result, error }) => ({ result, error }))).toEqual([
    { result: "started", error: undefined },
    { result: "failed", error: { code: "refused-overwrite", message: "database litellm exists" } },
  ]);
});

it("shows work that was killed by its start", async () => {
  const { clock, repository } = await quietRepository();
  withAudit(repository, { ...some, clock }, async () => await new Promise<never>(() => undefined));
  await clock.advance(1000);
  expect((await all(repository)).map(({ result }) => result)).toEqual(["started"]);
});

it("records the end although the work was cancelled", async () => {
  const { clock, repository } = await quietRepository();
  const stop = new AbortController();
  const cancelled = withAudit(repository, { ...some, clock, signal: stop.signal }, async () => {
    stop.abort();
    throw new PgkitError("cancelled", "stopped before it was done");
  });
  await expect(cancelled).rejects.toMatchObject({ code: "cancelled" });
  expect((await all(repository)).map(({ result }) => result)).toEqual(["started", "failed"]);
});

it("lets nothing happen that it cannot record, unless told that it must happen all the same", async () => {
  const { clock, store } = await quietRepository();
  const deny = {
    method: "put",
    call: 1,
    times: 100,
    does: "fail",
    error: new PgkitError("store-denied", "read-only key"),
  } as const;
  const repository = await repositoryIn(faultyStore(store, [deny]));
  let done = 0;
  const run = async () => {
    done += 1;
  };
  await expect(withAudit(repository, { ...some, clock }, run)).rejects.toMatchObject({ code: "store-denied" });
  expect(done).toBe(0);
  const { report, said } = reports();
  await withAudit(repository, { ...some, clock, required: false, report }, run);
  expect(done).toBe(1);
  expect(said()).toContain("restore of shared/litellm is missing in the audit record: read-only key");
});

it("lists what happened since a moment, across months, in order", async () => {
  const { clock, repository } = await quietRepository();
  for (const subject of ["first", "second", "third"]) {
    await withAudit(repository, { ...some, clock, subject }, async () => undefined);
    await clock.advance(20 * 86_400_000);
  }
  expect((await all(repository)).map(({ subject }) => subject)).toEqual([
    "first",
    "first",
    "second",
    "second",
    "third",
    "third",
  ]);
  const since = new Date("2026-12-11T02:00:00Z");
  expect((await all(repository, since)).map(({ subject }) => subject)).toEqual(["second", "second", "third", "third"]);
});

it("says which record was tampered with", async () => {
  const { clock, repository, store } = await quietRepository();
  await withAudit(repository, { ...some, clock }, async () => undefined);
  await store.put("audit/2026/11/20261121T030000Z-x.json", Buffer.from("{"));
  await expect(all(repository)).rejects.toMatchObject({
    code: "manifest-corrupt",
    message: expect.stringContaining("T030000Z-x.json"),
  });
});
