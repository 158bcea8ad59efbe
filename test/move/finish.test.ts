import { afterAll, beforeAll, expect, test } from "vitest";
import type { ProofReport } from "../../src/move/proof-report.ts";
import { folderOf, readProof } from "../../src/move/proof-store.ts";
import type { MoveContext } from "../../src/move/step.ts";
import { cleanUpStep } from "../../src/move/steps/clean-up.ts";
import { compareStep } from "../../src/move/steps/compare.ts";
import { finalBackupStep } from "../../src/move/steps/final-backup.ts";
import { proveAgainStep } from "../../src/move/steps/prove-again.ts";
import { watchFor, watchStep } from "../../src/move/steps/watch.ts";
import { runBefore } from "./online.ts";
import {
  applicationUrl,
  type MoveClusters,
  makeApplication,
  makeEmptyTarget,
  startMoveClusters,
  type TestMove,
  testMove,
} from "./support.ts";
import { startWriter } from "./writer.ts";

let clusters: MoveClusters;
let move: TestMove;

/** The move has switched: the target is open, and the source follows it. */
beforeAll(async () => {
  clusters = await startMoveClusters();
  await Promise.all([makeApplication(clusters.source), makeEmptyTarget(clusters.target)]);
  await clusters.source.psql(
    "ALTER ROLE litellm_user VALID UNTIL 'infinity'; CREATE ROLE elsewhere; GRANT elsewhere TO litellm_user",
  );
  await clusters.source.psql("CREATE TABLE kept (a int); ALTER TABLE kept OWNER TO elsewhere");
  move = await testMove(clusters, { pooled: true });
  await runBefore(move, { name: "confirm-feed" });
  const { compared } = await sampledOnly();
  move.results.set(compareStep.name, compared);
  for (const name of ["confirm-feed", "unblock"]) await runNamed(name);
}, 300_000);

afterAll(async () => {
  await move.close();
  await clusters[Symbol.asyncDispose]();
});

/** As if there had been no time to compare more than a part of each table. */
async function sampledOnly(): Promise<{ compared: ProofReport }> {
  const proof = await compareStep.run(move.context, undefined).catch(() => undefined);
  if (proof === undefined) throw new Error("source and target are not alike");
  const tables = proof.tables.map(({ checksum: _, rows: __, ...table }) => ({
    ...table,
    extent: "sampled" as const,
    sampledRows: 1,
  }));
  return { compared: { ...proof, state: "partly", differences: [], tables } };
}

async function runNamed(name: string): Promise<void> {
  const { onlineSteps } = await import("./online.ts");
  const step = onlineSteps.find((each) => each.name === name);
  if (step !== undefined) await move.run(step);
}

test("the application is seen on the target, and who is left on the source is named", async () => {
  const { arrived } = await watchFor(move.context, 0);
  expect(arrived).toEqual([]);
  expect(move.warnings()).toContainEqual(
    expect.stringMatching(/nobody has connected to litellm on dedicated within 0 s/),
  );
  const writer = startWriter({ url: () => applicationUrl(clusters.target, "litellm") });
  await writer.more(3);
  const seen = await move.run(watchStep);
  expect(seen).toMatchObject({ arrived: ["litellm_user"], stragglers: [] });
  const late = await clusters.source.connect("litellm");
  await late.query("SET application_name = 'cron job'");
  const { stragglers } = await watchFor(move.context, 300);
  expect(stragglers).toEqual([expect.stringMatching(/^postgres \(cron job\) from 127\.0\.0\.1$/)]);
  expect(move.warnings()).toContainEqual(expect.stringMatching(/still in litellm on shared, .*cron job/));
  await late.end();
  await writer.stop();
});

test("the proof that was made while writes were blocked is stored when they are not any more", async () => {
  const { repository, move: facts } = move.context;
  expect(await readProof(repository, folderOf(facts))).toMatchObject({ state: "partly", move: facts.id });
});

test("nothing is dropped without a whole proof, nor without a last backup", async () => {
  const plan = await cleanUpStep.prepare?.(move.context);
  if (plan === undefined) throw new Error("clean-up has no plan");
  await expect(cleanUpStep.run(move.context, plan)).rejects.toMatchObject({
    code: "move-refused",
    message: expect.stringMatching(/is not dropped: it is not proven .*\(partly\)/),
  });
  expect(await clusters.source.psql("SELECT count(*) FROM teams", "litellm")).toBe("20");
});

test("rows that differ on the source fail the rest of the proof, and the old database is kept", async () => {
  await clusters.source.psql("UPDATE teams SET name = 'changed behind the back' WHERE id = 7", "litellm");
  await expect(move.run(proveAgainStep)).rejects.toMatchObject({
    code: "proof-failed",
    message: expect.stringMatching(
      /table public\.teams: content is 1 rows that are missing, more, or not the same on the target/,
    ),
  });
  await clusters.source.psql(
    "UPDATE teams SET name = 'team 7' WHERE id = 7; INSERT INTO teams VALUES (99, 'more')",
    "litellm",
  );
  await expect(move.run(proveAgainStep)).rejects.toMatchObject({ code: "proof-failed" });
  await clusters.source.psql("DELETE FROM teams WHERE id = 99", "litellm");
});

test("the rest is proven while the application inserts, updates and deletes", async () => {
  const writer = startWriter({ url: () => applicationUrl(clusters.target, "litellm") });
  const client = await clusters.target.connect("litellm");
  let stop = false;
  const churn = (async () => {
    for (let n = 0; !stop; n++) {
      await client.query("UPDATE teams SET name = name || $1 WHERE id = $2", [`.${n}`, 1 + (n % 5)]);
      await client.query("DELETE FROM audit.entries WHERE id = (SELECT id FROM audit.entries LIMIT 1)");
    }
  })();
  try {
    const proof = await move.run(proveAgainStep);
    expect(proof.state).toBe("proven");
    expect(proof.tables.map(({ name, extent }) => ({ name, extent }))).toEqual(
      expect.arrayContaining(
        ["public.ledger", "public.teams", "audit.entries"].map((name) => ({ name, extent: "whole" })),
      ),
    );
    expect(await move.check(proveAgainStep)).toBe("done");
  } finally {
    stop = true;
    await churn;
    await client.end();
    await writer.stop();
  }
});

test("the old database and its role go, the new one and what others use stay", async () => {
  const plan = await cleanUpStep.prepare?.(move.context);
  if (plan === undefined) throw new Error("clean-up has no plan");
  await expect(cleanUpStep.run(move.context, plan)).rejects.toMatchObject({
    message: expect.stringMatching(/no last backup of it was taken/),
  });
  const backup = await move.run(finalBackupStep);
  expect(backup).toMatchObject({ found: false, storedBytes: expect.any(Number) });
  const { context } = move;
  const oneServer: MoveContext = {
    ...context,
    session: (side, use, database) =>
      context.session("target", use, side === "source" && database !== undefined ? "postgres" : database),
  };
  await expect(cleanUpStep.run(oneServer, plan)).rejects.toMatchObject({
    code: "move-refused",
    message: expect.stringMatching(/system id/),
  });
  const rows = await clusters.target.psql("SELECT count(*) FROM ledger", "litellm");

  await move.run(cleanUpStep);

  expect(await clusters.source.psql("SELECT count(*) FROM pg_database WHERE datname = 'litellm'")).toBe("0");
  expect(
    await clusters.source.psql(
      "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname IN ('litellm_user', 'elsewhere')",
    ),
  ).toBe("elsewhere");
  expect(await clusters.target.psql("SELECT count(*) FROM ledger", "litellm")).toBe(rows);
  expect(await clusters.target.psql("SELECT count(*) FROM pg_publication, pg_replication_slots", "litellm")).toBe("0");
  expect(await move.check(cleanUpStep)).toBe("done");
  await expect(move.undo(cleanUpStep)).rejects.toMatchObject({
    message: expect.stringMatching(/is gone: there is no way back/),
    hint: expect.stringContaining(backup.id),
  });
  await cleanUpStep.run(context, plan);
  expect(await clusters.target.psql("SELECT count(*) FROM ledger", "litellm")).toBe(rows);
});
