import { beforeAll, beforeEach, expect, test } from "vitest";
import { closeDatabase } from "../../src/move/close-database.ts";
import { isClosed } from "../../src/move/gate.ts";
import { assess } from "../../src/move/preflight.ts";
import type { Step } from "../../src/move/step.ts";
import { stepsOf } from "../../src/move/steps.ts";
import { expectEveryRow } from "../stories/move-support.ts";
import { eventually } from "../support/eventually.ts";
import { clustersOfFile } from "./clusters.ts";
import { application, applicationUrl, type MoveClusters, makeApplication, type TestMove, testMove } from "./support.ts";
import { startWriter } from "./writer.ts";

/** What a managed server gives its administrator: no superuser. */
const admin = { user: "admin", password: "admin-secret" };

const clusters = clustersOfFile();
beforeAll(async () => {
  await makeApplication(clusters.source);
  await clusters.target.psql(`CREATE ROLE admin LOGIN PASSWORD '${admin.password}'`);
});

let move: TestMove;
/** Online needs 16: before, only a superuser may subscribe. */
const mode = () => (clusters.target.major >= 16 ? "online" : "offline");
beforeEach(async () => {
  move = await testMove(clusters, { mode: mode(), targetLogin: admin, pooled: true });
  return () => move.close();
});

test("an administrator who lacks rights is told which, and how to get them", async () => {
  const refusals = async () =>
    (await assess(move.context)).risks.flatMap(({ level, message, hint }) =>
      level === "refusal" ? [{ message, hint }] : [],
    );
  const [lacking] = await refusals();
  expect(lacking?.message).toBe(
    "admin is no superuser on dedicated, and lacks CREATEDB, CREATEROLE, REPLICATION, pg_monitor, pg_signal_backend there",
  );
  await clusters.target.psql(lacking?.hint ?? "");
  if (mode() === "online") await clusters.target.psql("GRANT pg_create_subscription TO admin");
  expect(await refusals()).toEqual([]);
  await clusters.source.psql("CREATE TABLE theirs (a int PRIMARY KEY)", "litellm");
  expect((await refusals()).map(({ message }) => message)).toEqual([
    "objects that belong to superusers (public.theirs) cannot be made on dedicated by admin, which is no superuser there",
  ]);
  await clusters.source.psql("DROP TABLE theirs", "litellm");
});

const steps = () =>
  stepsOf(move.context.move).filter(({ name }) => !["preflight", "back-up", "watch"].includes(name)) as Step[];

/** What the application is told on the target. */
async function loginOnTarget(): Promise<string> {
  const client = startWriter({ url: () => applicationUrl(clusters.target, "litellm"), name: `probe ${Math.random()}` });
  return await eventually(async () => {
    if (client.acknowledged.length > 0) return "let in";
    expect(client.errors.length).toBeGreaterThan(0);
    return String(client.errors[0]);
  }).finally(() => client.stop());
}

test("the target is closed to the application until the switch, open after it, and what it writes comes back", async () => {
  const { target, source } = clusters;
  for (const step of steps()) {
    if (step.name === "unblock") expect(await loginOnTarget()).toMatch(/permission denied for database/);
    await move.run(step);
  }
  expect(await loginOnTarget()).toBe("let in");
  // A rollback that is killed leaves it to the server to open it again.
  const facts = { ...move.context.move, options: { ...move.context.move.options, maxBlockMs: 3000 } };
  await closeDatabase({ ...move.context, move: facts }, "target", 20);
  const closed = () => move.context.session("target", (session) => isClosed(session, "litellm"));
  expect(await closed()).toBe(true);
  await eventually(async () => expect(await closed()).toBe(false));
  const acl = (cluster: MoveClusters["source"]) =>
    cluster.psql(
      "SELECT a::text FROM pg_database, unnest(datacl) AS a WHERE datname = 'litellm' AND a::text !~ '^admin=' ORDER BY 1",
    );
  expect(await acl(target)).toBe(await acl(source));
  const writer = startWriter({ url: () => applicationUrl(target, "litellm") });
  await writer.more(5);
  for (const step of steps().toReversed()) {
    if (step.name === "switch") expect(await loginOnTarget()).toMatch(/permission denied for database/);
    await move.undo(step);
  }
  await writer.stop();
  await expectEveryRow(source, writer);
  expect(await source.psql("SELECT datconnlimit FROM pg_database WHERE datname = 'litellm'")).toBe("20");
  expect(await target.psql(`SELECT count(*) FROM pg_database WHERE datname = 'litellm'`)).toBe("0");
  expect(await target.psql(`SELECT count(*) FROM pg_roles WHERE rolname = '${application.user}'`)).toBe("0");
});
