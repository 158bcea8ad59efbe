import { chmod, chown, link, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { type PgBouncerSwitch, pgbouncerSwitcher } from "../../src/switch/pgbouncer.ts";
import type { EndpointAddress } from "../../src/switch/switcher.ts";
import { eventually } from "../support/eventually.ts";
import { type PgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { connectAs, login, portBehind, startTwoServers, type TwoServers } from "./support.ts";

const never = new AbortController().signal;
const users = { [login.user]: login.password };
let servers: TwoServers;
beforeAll(async () => {
  servers = await startTwoServers();
});
afterAll(async () => await servers?.[Symbol.asyncDispose]());

const entry = (name: string, { host, port, database }: EndpointAddress) =>
  `${name} = host=${host} port=${port} dbname=${database}`;

function switcherOf(
  bouncer: PgBouncer,
  given: Partial<PgBouncerSwitch> & { user?: string; password?: string; pauseTimeoutMs?: number } = {},
) {
  const { user = "pgbouncer_admin", password = bouncer.adminPassword, pauseTimeoutMs, ...config } = given;
  const admin = parseConnection(bouncer.admin.replace("pgbouncer_admin", user), secret(password));
  const whole = { admin, databases: ["litellm"], configFile: bouncer.configFile, ...config };
  return pgbouncerSwitcher(whole, { clock: systemClock, pauseTimeoutMs });
}

async function failureOf(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  return await work.then(
    () => {
      throw new Error("it did not fail");
    },
    (error) => error,
  );
}

/** Writes row after row, each in a transaction, and counts what was acknowledged and what the client was told instead. */
function writer(bouncer: PgBouncer, first: number) {
  let stopped = false;
  const acknowledged: number[] = [];
  const failures: string[] = [];
  const run = async () => {
    const client = await connectAs({ host: "127.0.0.1", port: bouncer.port, database: "litellm" });
    for (let n = first; !stopped; n += 1) {
      try {
        await client.query("BEGIN");
        await client.query("INSERT INTO entries VALUES ($1)", [n]);
        await client.query("COMMIT");
        acknowledged.push(n);
      } catch (error) {
        failures.push(String(error));
        stopped = true;
      }
    }
    await client.end();
  };
  const done = run();
  return {
    acknowledged,
    failures,
    stop: async () => {
      stopped = true;
      await done;
    },
  };
}

describe("PgBouncer", () => {
  test("clients that write all the time wait while it is paused, pointed elsewhere and resumed, and see no error", async () => {
    const { from, to, source, target } = servers;
    await using bouncer = await startPgBouncer({ databases: entry("litellm", from), users });
    const switcher = switcherOf(bouncer);
    const writers = [writer(bouncer, 0), writer(bouncer, 1_000_000)];
    await eventually(() => expect(Math.min(...writers.map((one) => one.acknowledged.length))).toBeGreaterThan(20));
    await switcher.pause?.(never);
    const before = writers.map((one) => one.acknowledged.length);
    const held = await source.psql("SELECT count(*) FROM entries", "litellm");
    expect(Number(held), "nothing is under way, and nothing but what was acknowledged is there").toBe(
      before.reduce((sum, count) => sum + count, 0),
    );
    await switcher.point(from, to, never);
    expect(
      writers.map((one) => one.acknowledged.length),
      "still held back",
    ).toEqual(before);
    await switcher.resume?.(never);
    await eventually(() =>
      expect(writers.every((one, index) => one.acknowledged.length > (before[index] ?? 0) + 20)).toBe(true),
    );
    for (const one of writers) await one.stop();
    expect(writers.flatMap((one) => one.failures)).toEqual([]);
    const all = writers.reduce((sum, one) => sum + one.acknowledged.length, 0);
    expect(Number(await source.psql("SELECT count(*) FROM entries", "litellm")), "none after the pause").toBe(
      Number(held),
    );
    expect(
      Number(await target.psql("SELECT count(*) FROM entries", "litellm")),
      "every acknowledged one after it",
    ).toBe(all - Number(held));
  });

  test("unpaused, connections to the old server are left when their transactions end", async () => {
    const { from, to } = servers;
    await using bouncer = await startPgBouncer({ databases: entry("litellm", from), users });
    const client = await connectAs({ host: "127.0.0.1", port: bouncer.port, database: "litellm" });
    await client.query("BEGIN");
    await client.query("SELECT 1");
    let isDone = false;
    const pointed = switcherOf(bouncer)
      .point(from, to, never)
      .then(() => {
        isDone = true;
      });
    await eventually(async () => expect((await bouncer.console("SHOW SERVERS"))[0]?.close_needed).toBe(1));
    expect((await client.query("SELECT inet_server_port() AS port")).rows[0].port, "its transaction goes on").toBe(
      from.port,
    );
    for (let round = 0; round < 10; round += 1) await bouncer.console("SHOW SERVERS");
    expect(isDone, "it waits for that").toBe(false);
    await client.query("COMMIT");
    await pointed;
    expect((await client.query("SELECT inet_server_port() AS port")).rows[0].port).toBe(to.port);
    await client.end();
  });

  test("only host, port and dbname of its entries are changed; comments, order, mode and owner stay", async () => {
    const { from, to } = servers;
    const databases = `# who: the platform\n  litellm   =  user=litellm_user host=${from.host}   port=${from.port} password='it''s' pool_size=3\n; litellm = host=a\nlitellm_ro = dbname=litellm host='${from.host}' port=${from.port} \nother = host=${from.host}`;
    await using bouncer = await startPgBouncer({ databases, users });
    const { configFile: path, runAs } = bouncer;
    await chmod(path, 0o604);
    if (runAs !== undefined) await chown(path, runAs.uid, 12_345);
    const [text, was] = [await readFile(path, "utf8"), await stat(path)];
    await link(path, join(bouncer.folder, "second-name"));
    const switcher = switcherOf(bouncer, { databases: ["litellm", "litellm_ro"] });
    await switcher.point(from, { ...to, host: "localhost" }, never);
    const expected = text
      .replace(
        `user=litellm_user host=${from.host}   port=${from.port}`,
        `user=litellm_user host=localhost   port=${to.port}`,
      )
      .replace(
        `dbname=litellm host='${from.host}' port=${from.port} `,
        `dbname=litellm host=localhost port=${to.port} `,
      );
    expect(await readFile(path, "utf8")).toBe(expected);
    const is = await stat(path);
    expect([is.mode, is.uid, is.gid]).toEqual([was.mode, was.uid, was.gid]);
    expect(await readFile(join(bouncer.folder, "second-name"), "utf8"), "replaced, not written over").toBe(text);
    expect(await switcher.current(never)).toMatchObject({ host: "localhost", port: to.port });
  });

  test("an entry in an included file is changed there", async () => {
    const { from, to } = servers;
    await using bouncer = await startPgBouncer({
      databases: "%include databases.ini",
      users,
      files: { "databases.ini": `${entry("litellm", from)}\n` },
    });
    const text = await readFile(bouncer.configFile, "utf8");
    await switcherOf(bouncer).point(from, to, never);
    expect(await readFile(join(bouncer.folder, "databases.ini"), "utf8")).toBe(`${entry("litellm", to)}\n`);
    expect(await readFile(bouncer.configFile, "utf8")).toBe(text);
    expect(await portBehind("127.0.0.1", bouncer.port)).toBe(to.port);
  });

  test("killed between the file and the reload, it is pointed on, or back", async () => {
    const { from, to } = servers;
    await using bouncer = await startPgBouncer({ databases: entry("litellm", from), users });
    const text = await readFile(bouncer.configFile, "utf8");
    const switcher = switcherOf(bouncer);
    const written = text.replace(entry("litellm", from), entry("litellm", to));
    await writeFile(bouncer.configFile, written);
    await switcher.point(to, from, never);
    expect(
      await readFile(bouncer.configFile, "utf8"),
      "PgBouncer pointed there all along, and its file does again",
    ).toBe(text);
    await writeFile(bouncer.configFile, written);
    await switcher.point(from, to, never);
    expect(await portBehind("127.0.0.1", bouncer.port)).toBe(to.port);
  });

  test("started anew while it is paused, it can be pointed elsewhere and resumed", async () => {
    const { from, to } = servers;
    await using bouncer = await startPgBouncer({ databases: entry("litellm", from), users });
    const switcher = switcherOf(bouncer);
    await switcher.pause?.(never);
    await bouncer.stop();
    expect(await failureOf(switcher.point(from, to, never))).toMatchObject({
      code: "switch-unreachable",
      hint: expect.stringContaining("PgBouncer running"),
    });
    expect(await failureOf(switcher.resume?.(never) ?? Promise.resolve())).toMatchObject({
      code: "switch-unreachable",
    });
    await bouncer.start();
    await switcher.point(from, to, never);
    await switcher.resume?.(never);
    expect(await portBehind("127.0.0.1", bouncer.port)).toBe(to.port);
  });

  test.each([
    ["session", /pooled by session \(litellm\)/, /pool_mode=transaction/],
    [
      "transaction",
      /could not pause litellm within 0.5 s: 1 server connections are still in use$/,
      /long transactions/,
    ],
  ])(
    "a pause that waits too long for clients of pool mode %s is given up, and nobody waits any more",
    async (mode, message, hint) => {
      const { from, to } = servers;
      await using bouncer = await startPgBouncer({
        databases: entry("litellm", from),
        users,
        settings: { pool_mode: mode },
      });
      const switcher = switcherOf(bouncer, { pauseTimeoutMs: 500 });
      const client = await connectAs({ host: "127.0.0.1", port: bouncer.port, database: "litellm" });
      await client.query("BEGIN");
      const failure = await failureOf(switcher.pause?.(never) ?? Promise.resolve());
      expect(failure).toMatchObject({
        code: "switch-failed",
        message: expect.stringMatching(message),
        hint: expect.stringMatching(hint),
      });
      expect(await portBehind("127.0.0.1", bouncer.port), "others are served").toBe(from.port);
      const warnings = (await switcher.plan?.(to, never))?.warnings ?? [];
      expect(warnings.length, "the plan says it before").toBe(mode === "session" ? 1 : 0);
      const paused = switcher.pause?.(AbortSignal.timeout(200));
      await expect(paused).rejects.toMatchObject({ name: "TimeoutError" });
      expect(await portBehind("127.0.0.1", bouncer.port), "nor after an abort").toBe(from.port);
      await client.end();
      await switcher.pause?.(never);
      await switcher.resume?.(never);
    },
  );

  test("what it cannot do is refused, with what to do, and nothing is changed", async () => {
    const { from, to } = servers;
    const databases = `${entry("litellm", from)}\n${entry("elsewhere", to)}\nsocket = dbname=litellm\n* = host=${from.host} port=${from.port}`;
    await using bouncer = await startPgBouncer({ databases, users });
    const text = await readFile(bouncer.configFile, "utf8");
    await portBehind("127.0.0.1", bouncer.port, "postgres");
    const refusals: [Partial<Parameters<typeof switcherOf>[1]>, string, RegExp, RegExp][] = [
      [{ password: "wrong" }, "switch-denied", /refused: .*(auth|password)/i, /admin_users/],
      [{ user: "nobody" }, "switch-denied", /refused/, /admin_users/],
      [{ user: "pgbouncer_stats" }, "switch-denied", /admin access needed/, /admin_users/],
      [{ databases: ["missing"] }, "config", /no database missing/, /elsewhere/],
      [{ databases: ["postgres"] }, "config", /by its entry \*/, /postgres = host=127.0.0.1 port=\d+; then RELOAD/],
      [{ databases: ["litellm", "elsewhere"] }, "config", /different places/, /only those/],
      [{ databases: ["socket"] }, "config", /names no host/, /host=/],
      [{ configFile: undefined }, "config", /configuration file is not named/, /switch.pgbouncer.configFile/],
      [
        { configFile: "/nowhere/pgbouncer.ini" },
        "switch-failed",
        /\/nowhere\/pgbouncer.ini cannot be read/,
        /path right/,
      ],
      [
        { configFile: join(bouncer.folder, "users.txt") },
        "config",
        /no database litellm in \[databases\]/,
        /configFile/,
      ],
    ];
    for (const [given, code, message, hint] of refusals) {
      const at = given?.databases?.[0] === "postgres" ? { ...from, database: "postgres" } : from;
      const failure = await failureOf(switcherOf(bouncer, given).point(at, { ...to, database: at.database }, never));
      expect(failure, JSON.stringify(given)).toMatchObject({
        code,
        message: expect.stringMatching(message),
        hint: expect.stringMatching(hint),
      });
      expect(`${failure.message} ${failure.hint}`).not.toContain(bouncer.adminPassword);
    }
    expect(
      await failureOf(switcherOf(bouncer, { user: "pgbouncer_stats" }).pause?.(never) ?? Promise.resolve()),
    ).toMatchObject({ code: "switch-denied" });
    expect((await switcherOf(bouncer, { configFile: undefined }).plan?.(to, never))?.refusals).toHaveLength(1);
    expect(await readFile(bouncer.configFile, "utf8")).toBe(text);
    expect(await portBehind("127.0.0.1", bouncer.port)).toBe(from.port);
  });

  test("a file that PgBouncer does not read is put back as it was", async () => {
    const { from, to } = servers;
    await using bouncer = await startPgBouncer({ databases: entry("litellm", from), users });
    const path = join(bouncer.folder, "not-read.ini");
    await writeFile(path, `[databases]\n${entry("litellm", from)}\n`);
    const failure = await failureOf(switcherOf(bouncer, { configFile: path }).point(from, to, never));
    expect(failure).toMatchObject({
      code: "switch-failed",
      message: expect.stringContaining("after RELOAD"),
      hint: expect.stringContaining("it says that it reads pgbouncer.ini"),
    });
    expect(await readFile(path, "utf8")).toBe(`[databases]\n${entry("litellm", from)}\n`);
  });
});
