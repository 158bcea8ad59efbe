import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { switchStep } from "../../src/move/steps/switch.ts";
import { switchOutlook } from "../../src/move/switch-risks.ts";
import { identifier } from "../../src/postgres/quote.ts";
import { envFileSwitcher } from "../../src/switch/env-file.ts";
import type { Switcher } from "../../src/switch/switcher.ts";
import { clustersOfFile, newDatabaseOn } from "./clusters.ts";
import { application, applicationUrl, stepLifecycle, testMove } from "./support.ts";

const clusters = clustersOfFile();
const newDatabase = newDatabaseOn(clusters);
let database = "";
beforeEach(async () => {
  database = await newDatabase();
});

/** Env files that the application reads, each with its switcher. */
async function envFiles(names: readonly string[], text = applicationUrl(clusters.source, database)) {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
  const paths = names.map((name) => join(folder, name));
  for (const path of paths) await writeFile(path, `# keep\nDATABASE_URL=${text}\n`);
  const switchers = paths.map((path) =>
    envFileSwitcher({ path, keys: { url: "DATABASE_URL" } }, { database, keep: secret }),
  );
  return { paths, switchers, contents: async () => await Promise.all(paths.map((path) => readFile(path, "utf8"))) };
}

const held = (url: string) => `# keep\nDATABASE_URL=${url}\n`;

async function blocked(switchers: readonly Switcher[]) {
  const move = await testMove(clusters, { database, switchers });
  await move.run(blockWritesStep);
  return move;
}

describe("the step switch", () => {
  test("points there, again, back, and there once more; the journal holds no secret", async () => {
    const { switchers, contents } = await envFiles(["web.env", "worker.env"]);
    const move = await blocked(switchers);
    const [before, after] = [clusters.source, clusters.target].map((cluster) =>
      held(applicationUrl(cluster, database)),
    );
    await stepLifecycle(move, switchStep, {
      done: async () => expect(await contents()).toEqual([after, after]),
      undone: async () => expect(await contents()).toEqual([before, before]),
    });
    const journal = JSON.stringify([...move.plans, ...move.results]);
    for (const form of [application.password, encodeURIComponent(application.password)])
      expect(journal).not.toContain(form);
    expect(move.said()).not.toContain("app-secret");
  });

  test("where the second of two fails, the way back puts the first one right", async () => {
    const { paths, switchers, contents } = await envFiles(["web.env", "worker.env"]);
    const before = await contents();
    const move = await blocked(switchers);
    const broken = switchers.map(
      (one, index): Switcher =>
        index === 1 ? { ...one, point: async () => Promise.reject(new Error("the disk is gone")) } : one,
    );
    const failing = { ...move.context, switchers: broken };
    const plan = await switchStep.prepare?.(failing);
    if (plan === undefined) throw new Error("it has a plan");
    await expect(switchStep.run(failing, plan)).rejects.toThrow("the disk is gone");
    expect(await readFile(paths[0] ?? "", "utf8"), "the first is there").toContain(`:${clusters.target.port}/`);
    expect(await switchStep.check(move.context, plan)).toBe("partial");
    await switchStep.undo(move.context, plan, undefined);
    expect(await contents()).toEqual(before);
    expect(await switchStep.check(move.context, plan)).toBe("todo");
  });

  test("what somebody else has pointed to a third place is left, there and on the way back", async () => {
    const { paths, switchers, contents } = await envFiles(["web.env", "worker.env"]);
    const move = await blocked(switchers);
    const plan = await switchStep.prepare?.(move.context);
    if (plan === undefined) throw new Error("it has a plan");
    const third = held("postgresql://u:p@elsewhere:5432/other");
    await writeFile(paths[1] ?? "", third);
    await expect(switchStep.run(move.context, plan)).rejects.toMatchObject({
      code: "switch-conflict",
      message: expect.stringContaining("elsewhere:5432/other"),
    });
    await expect(switchStep.undo(move.context, plan, undefined)).rejects.toMatchObject({ code: "switch-conflict" });
    expect(await contents(), "the other one is back").toEqual([held(applicationUrl(clusters.source, database)), third]);
  });

  test("a block that its deadline has lifted is not switched after", async () => {
    const { switchers, contents } = await envFiles(["web.env"]);
    const before = await contents();
    const move = await blocked(switchers);
    await clusters.source.psql(`ALTER DATABASE ${identifier(database)} CONNECTION LIMIT 20`);
    await expect(move.run(switchStep)).rejects.toMatchObject({ code: "move-stopped" });
    expect(await contents()).toEqual(before);
  });

  test("a password that the target does not know, and another server, are found before anything is switched", async () => {
    const { switchers, contents } = await envFiles(
      ["web.env"],
      applicationUrl(clusters.source, database).replace("app-secret", "other-secret"),
    );
    const before = await contents();
    const move = await blocked(switchers);
    await expect(move.run(switchStep)).rejects.toMatchObject({
      code: "postgres-denied",
      message: expect.stringContaining(`does not let ${application.user} in`),
    });
    // Servers of the tests are copies of one, and have its system id.
    const facts = { ...move.context.move, target: { ...move.context.move.target, systemId: "1" } };
    await expect(switchStep.prepare?.({ ...move.context, move: facts })).rejects.toMatchObject({
      code: "system-mismatch",
      message: expect.stringContaining("(1)"),
    });
    expect(await contents()).toEqual(before);
  });

  test("a switcher that the configuration no longer has, or has only now, is no guess", async () => {
    const { switchers } = await envFiles(["web.env", "worker.env"]);
    const move = await blocked(switchers);
    const plan = await switchStep.prepare?.(move.context);
    if (plan === undefined) throw new Error("it has a plan");
    const less = { ...move.context, switchers: switchers.slice(1) };
    await expect(switchStep.run(less, plan)).rejects.toMatchObject({
      code: "move-refused",
      message: expect.stringContaining("web.env was, and is no longer"),
    });
    const only = { ...plan, switched: plan.switched.slice(1) };
    await expect(switchStep.undo(move.context, only, undefined)).rejects.toMatchObject({
      code: "move-refused",
      message: expect.stringContaining("web.env was not"),
    });
  });
});

describe("the outlook of a switch", () => {
  const risksOf = async (switchers: readonly Switcher[]) =>
    (await switchOutlook((await testMove(clusters, { database, switchers })).context)).risks;

  test("an application that is not at the source is refused", async () => {
    const levels = async (text: string) =>
      (await risksOf((await envFiles(["web.env"], text)).switchers))
        .filter(({ message }) => /points at/.test(message))
        .map(({ level }) => level);
    expect(await levels(applicationUrl(clusters.source, database))).toEqual([]);
    expect(
      await levels(applicationUrl(clusters.source, database).replace("127.0.0.1", "localhost")),
      "another name of it",
    ).toEqual([]);
    expect(await levels(applicationUrl(clusters.target, database))).toEqual(["refusal"]);
    expect(await levels(applicationUrl(clusters.source, "postgres"))).toEqual(["refusal"]);
    expect(await levels("postgresql://u:p@127.0.0.1:1/x"), "not proven").toEqual(["warning"]);
  });

  test("one that cannot be asked is a refusal with its remedy, and none at all a warning", async () => {
    const { paths, switchers } = await envFiles(["web.env"]);
    await rm(paths[0] ?? "");
    expect(await risksOf(switchers)).toMatchObject([
      {
        level: "refusal",
        message: expect.stringContaining("web.env cannot be read"),
        hint: expect.stringMatching(/\w/),
      },
    ]);
    expect(await risksOf([])).toMatchObject([{ level: "warning", message: expect.stringContaining("no switch:") }]);
  });
});
