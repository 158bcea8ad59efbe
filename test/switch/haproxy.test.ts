import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { type HaproxySwitch, haproxySwitcher } from "../../src/switch/haproxy.ts";
import type { EndpointAddress } from "../../src/switch/switcher.ts";
import { freePort } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { type HaProxy, startHaProxy } from "../support/haproxy.ts";
import { connectAs, login, portBehind, startTwoServers, type TwoServers } from "./support.ts";

const never = new AbortController().signal;
let servers: TwoServers;
beforeAll(async () => {
  servers = await startTwoServers();
});
afterAll(async () => await servers?.[Symbol.asyncDispose]());

function switcherOf(
  proxy: HaProxy,
  given: Partial<HaproxySwitch> & { known?: EndpointAddress[]; database?: string } = {},
) {
  const { known = [servers.from, servers.to], database = "litellm", ...config } = given;
  return haproxySwitcher(
    { socket: proxy.socket, backend: "postgres", server: "pg", ...config },
    { clock: systemClock, database, known },
  );
}

const line = ({ host, port }: EndpointAddress, more = "") => `  server pg ${host}:${port} ${more}`;

async function failureOf(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  return await work.then(
    () => {
      throw new Error("it did not fail");
    },
    (error) => error,
  );
}

describe("HAProxy", () => {
  test("sessions to the old server are ended, and who comes back is on the new one", async () => {
    const { from, to, source } = servers;
    await using proxy = await startHaProxy({ backend: line(from) });
    const client = await connectAs({ host: "127.0.0.1", port: proxy.port, database: "litellm" });
    const ended = new Promise((resolve) => client.once("end", resolve));
    expect((await client.query("SELECT inet_server_port() AS port")).rows[0].port).toBe(from.port);
    await switcherOf(proxy).point(from, to, never);
    await ended;
    await eventually(async () =>
      expect(await source.psql(`SELECT count(*) FROM pg_stat_activity WHERE usename = '${login.user}'`)).toBe("0"),
    );
    expect(await portBehind("127.0.0.1", proxy.port)).toBe(to.port);
    const again = await connectAs({ host: "127.0.0.1", port: proxy.port, database: "litellm" });
    await switcherOf(proxy).point(from, to, never);
    expect((await again.query("SELECT 1 AS one")).rows, "pointed again it ends nobody's session").toEqual([{ one: 1 }]);
    await again.end();
  });

  test("an address is told by the name that the configuration has for it", async () => {
    const { from, to } = servers;
    await using proxy = await startHaProxy({ backend: line(from) });
    const named = { ...to, host: "localhost" };
    const switcher = switcherOf(proxy, { known: [from, named], socket: `127.0.0.1:${proxy.socketPort}` });
    await switcher.point(from, named, never);
    expect(await switcher.current(never), "by its name").toEqual(named);
    expect(await switcherOf(proxy, { known: [] }).current(never), "by its address").toEqual(to);
    expect(await portBehind("127.0.0.1", proxy.port)).toBe(to.port);
    await switcher.point(to, from, never);
    expect(await portBehind("127.0.0.1", proxy.port), "from is told by its address, too").toBe(from.port);
  });

  test("one whose check has the old server down is waited for until the new one is up", async () => {
    const { to } = servers;
    const gone = { ...to, port: await freePort() };
    await using proxy = await startHaProxy({ backend: line(gone, "check inter 100ms fall 1 rise 1") });
    await eventually(async () => expect(await proxy.command("show stat")).toMatch(/postgres,pg,.*DOWN/));
    await switcherOf(proxy).point(gone, to, never);
    expect(await portBehind("127.0.0.1", proxy.port)).toBe(to.port);
  });

  test("its plan says which line to commit, and that a reload would lead back", async () => {
    const { from, to } = servers;
    await using proxy = await startHaProxy({
      backend: `${line(from)}\n  server second ${from.host}:${from.port} backup`,
    });
    const plan = await switcherOf(proxy).plan?.(to, never);
    const [reload, second] = plan?.warnings ?? [];
    expect(reload?.message).toContain("a reload or restart leads it back");
    expect(reload?.hint).toContain(`backend postgres: server pg ${to.host}:${to.port}`);
    expect(second?.message).toContain("the server second too");
  });

  test("a server with a resolver is given the new name, and an address is refused: it would be led back", async () => {
    const { from, to } = servers;
    await using proxy = await startHaProxy({
      defaults: "\nresolvers dns\n  nameserver none 127.0.0.1:1\n  hold timeout 1h\n  hold refused 1h",
      backend: `  server pg localhost:${from.port} resolvers dns init-addr libc`,
    });
    const failure = await failureOf(switcherOf(proxy).point(from, to, never));
    expect(failure).toMatchObject({
      code: "switch-failed",
      message: expect.stringContaining("resolves the name localhost"),
      hint: expect.stringContaining("instances.NAME.endpoint"),
    });
    expect(await portBehind("127.0.0.1", proxy.port)).toBe(from.port);
  });

  test("what it cannot do is refused, with what to do, and nothing is changed", async () => {
    const { from, to } = servers;
    await using proxy = await startHaProxy({ backend: line(from) });
    const refusals: [Parameters<typeof switcherOf>[1], EndpointAddress, string, RegExp, RegExp][] = [
      [{ backend: "nope" }, to, "config", /no backend nope/, /switch.haproxy.backend/],
      [{ server: "nope" }, to, "config", /no server nope/, /it has: pg/],
      [{ socket: "/nowhere/admin.sock" }, to, "switch-unreachable", /ENOENT/, /stats socket/],
      [{ socket: `127.0.0.1:${await freePort()}` }, to, "switch-unreachable", /ECONNREFUSED/, /stats socket/],
      [{ socket: `${proxy.folder}/user.sock` }, to, "switch-denied", /user.sock refused: set server/, /level admin/],
      [{}, { ...to, database: "other" }, "config", /cannot lead to the database other/, /same name/],
      [{}, { ...to, host: "no-such-host.invalid" }, "switch-failed", /no-such-host.invalid/, /./],
    ];
    for (const [given, at, code, message, hint] of refusals) {
      const failure = await failureOf(switcherOf(proxy, given).point(from, at, never));
      expect(failure, JSON.stringify(given)).toMatchObject({
        code,
        message: expect.stringMatching(message),
        hint: expect.stringMatching(hint),
      });
    }
    for (const state of ["maint", "drain"]) {
      await proxy.command(`set server postgres/pg state ${state}`);
      expect(await failureOf(switcherOf(proxy).point(from, to, never))).toMatchObject({
        code: "config",
        message: expect.stringContaining(`state ${state}`),
      });
    }
    await proxy.command("set server postgres/pg state ready");
    expect(await portBehind("127.0.0.1", proxy.port)).toBe(from.port);
  });
});
