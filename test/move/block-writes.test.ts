import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { makePermanent } from "../../src/move/block.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { identifier } from "../../src/postgres/quote.ts";
import type { Switcher } from "../../src/switch/switcher.ts";
import { eventually } from "../support/eventually.ts";
import { clustersOfFile, newDatabaseOn } from "./clusters.ts";
import { applicationUrl, endpointOf, testMove } from "./support.ts";
import { startWriter, type Writer, type WriterOptions } from "./writer.ts";

const clusters = clustersOfFile({ source: { settings: { max_prepared_transactions: "5" } } });
const newDatabase = newDatabaseOn(clusters);
let database = "";
beforeEach(async () => {
  database = await newDatabase();
});

function writing(options: Partial<WriterOptions> = {}): Writer {
  const writer = startWriter({ url: () => applicationUrl(clusters.source, database), ...options });
  onTestFinished(() => writer.stop());
  return writer;
}

const asSuperuser = () => clusters.source.url(database);
const rows = () => clusters.source.psql("SELECT count(*) FROM ledger", database);
const limit = () => clusters.source.psql(`SELECT datconnlimit FROM pg_database WHERE datname = '${database}'`);
const deadlines = () =>
  clusters.source.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgkit deadline%'");

/** One that only notes what is asked of it. */
function switcher(pause: (signal: AbortSignal) => Promise<void> = async () => undefined) {
  const asked: string[] = [];
  const made: Switcher = {
    ...{ where: "PgBouncer at 127.0.0.1:6432, database litellm", kind: "pgbouncer" },
    current: async () => endpointOf(clusters.source, database),
    point: async () => undefined,
    pause: async (signal) => {
      asked.push(`pause at limit ${await limit()}`);
      await pause(signal);
    },
    resume: async () => {
      asked.push(`resume at limit ${await limit()}`);
    },
  };
  return { asked, made };
}

describe("a block holds", () => {
  test("against clients that connect again in a tight loop, until it is lifted", async () => {
    const writers = [1, 2, 3, 4].map((n) => writing({ name: `writer ${n}`, pauseMs: 0 }));
    await Promise.all(writers.map((writer) => writer.more(5)));
    const { context, run, undo } = await testMove(clusters, { database });
    await run(blockWritesStep);
    const [before, refused] = [await rows(), writers.reduce((sum, { errors }) => sum + errors.length, 0)];
    await eventually(() => {
      expect(writers.reduce((sum, { errors }) => sum + errors.length, 0)).toBeGreaterThan(refused + 20);
    });
    expect(await rows()).toBe(before);
    await makePermanent(context);
    expect(await deadlines()).toBe("0");
    await undo(blockWritesStep);
    expect(await limit()).toBe("20");
    await Promise.all(writers.map((writer) => writer.more(5)));
  });

  test("and what a superuser writes in spite of it is found before the switch", async () => {
    const { context, run, undo } = await testMove(clusters, { database });
    await run(blockWritesStep);
    await clusters.source.psql("INSERT INTO teams (name) VALUES ('sneaked in')", database);
    await expect(makePermanent(context)).rejects.toMatchObject({
      code: "move-stopped",
      message: /was written to while it was closed: \d+ rows before, \d+ now/,
    });
    await undo(blockWritesStep);
    expect(await limit()).toBe("20");
  });

  test("switchers hold statements back before it, and let them go on after it", async () => {
    const { asked, made } = switcher();
    const { run, undo } = await testMove(clusters, { database, switchers: [made] });
    await run(blockWritesStep);
    await undo(blockWritesStep);
    expect(asked).toEqual(["pause at limit 20", "resume at limit 20"]);
  });
});

describe("a block that cannot hold is lifted at once", () => {
  test("where an application is a superuser and comes back", async () => {
    const writer = writing({ url: asSuperuser, name: "root app" });
    await writer.more(3);
    const { context, run, undo } = await testMove(clusters, { database, maxBlockMs: 2000 });
    // Found by the block itself where it is quick to come back, else by what it has written then.
    const blocked = run(blockWritesStep).then(async () => {
      await writer.more(1);
      await makePermanent(context);
    });
    await expect(blocked).rejects.toMatchObject({
      code: "move-stopped",
      message: /postgres \(superuser\) root app|was written to while it was closed/,
      hint: /superuser/,
    });
    await undo(blockWritesStep);
    expect([await limit(), await deadlines()]).toEqual(["20", "0"]);
    await writer.more(3);
  });

  test("where a prepared transaction may yet write", async () => {
    await clusters.source.psql(
      "BEGIN; INSERT INTO teams (name) VALUES ('later'); PREPARE TRANSACTION 'later'",
      database,
    );
    const { run } = await testMove(clusters, { database });
    await expect(run(blockWritesStep)).rejects.toMatchObject({ code: "move-stopped", message: /write: later/ });
    expect(await limit()).toBe("20");
    await clusters.source.psql("ROLLBACK PREPARED 'later'", database);
  });

  test("where a statement under way keeps a switcher from pausing", async () => {
    const never = switcher(
      (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    );
    const { run } = await testMove(clusters, { database, maxBlockMs: 600, switchers: [never.made] });
    await expect(run(blockWritesStep)).rejects.toMatchObject({
      code: "move-stopped",
      message: /PgBouncer .* could not be paused/,
    });
    expect(never.asked).toEqual(["pause at limit 20", "resume at limit 20"]);
  });

  test("and pgkit as an ordinary user refuses to begin", async () => {
    await clusters.source.psql(
      "DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    );
    await clusters.source.psql(`GRANT CONNECT ON DATABASE ${identifier(database)} TO plain`);
    const { context } = await testMove(clusters, { database });
    const asPlain: typeof context.session = (side, use, other) =>
      context.session(
        side,
        async (session) => {
          await session.query("SET SESSION AUTHORIZATION plain");
          return await use(session);
        },
        other,
      );
    await expect(blockWritesStep.prepare?.({ ...context, session: asPlain })).rejects.toMatchObject({
      code: "move-refused",
      message: /only be blocked by a superuser, and plain is none/,
    });
  });
});

describe("the server lifts a block by itself", () => {
  test("at its deadline, when pgkit was killed", async () => {
    const writer = writing();
    await writer.more(3);
    const child = await blockedChild({ maxBlockMs: 1500 });
    const before = await rows();
    child.kill("SIGKILL");
    expect(await limit()).toBe("0");
    await eventually(async () => expect(await limit()).toBe("20"));
    await writer.more(3);
    expect(Number(await rows())).toBeGreaterThan(Number(before));
  });

  test("without a deadline, when pgkit's sessions have been gone for a while", async () => {
    const child = await blockedChild({});
    expect([await limit(), await deadlines()]).toEqual(["0", "1"]);
    child.kill("SIGKILL");
    await eventually(async () => expect(await limit()).toBe("20"));
  });

  test("and a pgkit that comes too late does not switch", async () => {
    const { context, run } = await testMove(clusters, { database, maxBlockMs: 300 });
    await run(blockWritesStep);
    await eventually(async () => expect(await limit()).toBe("20"));
    await expect(makePermanent(context)).rejects.toMatchObject({
      code: "move-stopped",
      message: /opened again at the deadline/,
    });
  });

  test("but not once it is permanent", async () => {
    const { context, run } = await testMove(clusters, { database, maxBlockMs: 2000 });
    await run(blockWritesStep);
    expect(await deadlines()).toBe("1");
    await makePermanent(context);
    expect([await limit(), await deadlines()]).toEqual(["0", "0"]);
  });
});

async function blockedChild({ maxBlockMs }: { maxBlockMs?: number }) {
  const { host, port, superuser, password, major } = clusters.source;
  const file = fileURLToPath(new URL("./blocked-child.ts", import.meta.url));
  const known = JSON.stringify({ cluster: { host, port, superuser, password, major }, database, maxBlockMs });
  const child = spawn(process.execPath, [file, known], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  return child;
}
