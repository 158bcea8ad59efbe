import { afterAll, beforeAll, expect, test } from "vitest";
import type { Survey } from "../../src/move/compare/survey.ts";
import type { Step } from "../../src/move/step.ts";
import { compareStep } from "../../src/move/steps/compare.ts";
import { compareStructureStep } from "../../src/move/steps/compare-structure.ts";
import { proveAgainStep } from "../../src/move/steps/prove-again.ts";
import { stepsOf } from "../../src/move/steps.ts";
import { type MoveClusters, makeApplication, startMoveClusters, type TestMove, testMove } from "./support.ts";

let clusters: MoveClusters;
let move: TestMove;
beforeAll(async () => {
  // So that 200 workers that copy one table each do not take turns by two.
  const settings = { max_sync_workers_per_subscription: "6" };
  clusters = await startMoveClusters({ target: { settings } });
  await makeApplication(clusters.source);
  await clusters.source.psql(manyTables, "litellm");
  move = await testMove(clusters, { pooled: true });
});
afterAll(async () => {
  await move?.close();
  await clusters[Symbol.asyncDispose]();
});

/** 200 tables in 5 schemas, some with rows and with a reference to their neighbour; and one that takes time to compare. */
const manyTables = `
DO $do$ BEGIN
  FOR s IN 1..5 LOOP
    EXECUTE format('CREATE SCHEMA app_%s AUTHORIZATION litellm_user', s);
    FOR t IN 1..40 LOOP
      EXECUTE format('CREATE TABLE app_%s.table_%s (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, before int %s)', s, t,
        CASE WHEN t > 1 THEN format('REFERENCES app_%s.table_%s', s, t - 1) END);
      EXECUTE format('ALTER TABLE app_%s.table_%s OWNER TO litellm_user', s, t);
      IF t % 8 = 0 THEN EXECUTE format('INSERT INTO app_%s.table_%s (v) SELECT g::text FROM generate_series(1, 20) g', s, t); END IF;
    END LOOP;
  END LOOP;
END $do$;
CREATE TABLE app_1.big (id int PRIMARY KEY, v text);
ALTER TABLE app_1.big OWNER TO litellm_user;
INSERT INTO app_1.big SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, 30000) g;
`;

/** The steps of the move from this one on, up to that one, as the engine runs them; the backup is another test's. */
async function through(last: string): Promise<void> {
  for (const { name, ...step } of stepsOf(move.context.move)) {
    if (!["preflight", "back-up"].includes(name)) await move.run({ name, ...step } as unknown as Step);
    if (name === last) return;
  }
}

test("200 tables in five schemas arrive; a big one is sampled while writes are blocked, and proven afterwards", async () => {
  await through(compareStructureStep.name);
  // As on a server that has no time for more than the least.
  const survey = move.results.get(compareStructureStep.name) as Survey;
  move.results.set(compareStructureStep.name, { ...survey, bytesPerMs: 1 });
  await through("drain");
  const onTarget = (sql: string) => clusters.target.psql(sql, "litellm");
  // Before the feed back begins, which would carry it to the source.
  await onTarget("UPDATE app_1.big SET v = 'lost' WHERE id = 30000");
  const { differences } = await compareStep.run(move.context, undefined);
  expect(differences, "what came last is in every sample").toContainEqual({
    ...{ kind: "table", object: "app_1.big", of: expect.stringMatching(/^checksum of the \d+ rows of \d+ looked up$/) },
    ...{ source: expect.any(String), target: expect.any(String) },
  });
  await onTarget("UPDATE app_1.big SET v = repeat(md5(id::text), 3) WHERE id = 30000");
  await through("unblock");
  const proof = await move.run(compareStep);
  expect([proof.state, proof.sequences]).toEqual(["partly", 202]);
  const whole = proof.tables.filter(({ extent }) => extent === "whole");
  expect([proof.tables.length, whole.length]).toEqual([204, 203]);
  expect(proof.tables.find(({ name }) => name === "app_1.big")).toMatchObject({ extent: "sampled" });
  expect((await move.run(proveAgainStep)).state).toBe("proven");
});
