import { expect, test } from "vitest";
import { application, applicationUrl, makeApplication, startMoveClusters } from "../move/support.ts";
import { startWriter } from "../move/writer.ts";
import { startHaProxy } from "../support/haproxy.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { pgkitFor } from "../support/pgkit.ts";
import { expectEveryRow } from "./move-support.ts";

interface MoveJson {
  state: string;
  writeBlockedMs: number;
}

/** Two instances, and an application that knows nothing but the address of what stands in front of them. */
async function behindProxy(
  settings: readonly string[],
  port: number,
  clusters: Awaited<ReturnType<typeof startMoveClusters>>,
  user?: { name: string; password: string },
) {
  const external = { cluster: clusters.target, ...(user === undefined ? {} : { user }) };
  const pgkit = await pgkitFor({ shared: { cluster: clusters.source }, external }, [
    ...["applications:", "  litellm:", "    instance: shared", "    switch:"],
    ...settings.map((line) => `      ${line}`),
  ]);
  const url = new URL(applicationUrl(clusters.source, "litellm"));
  url.port = String(port);
  return { pgkit, writer: startWriter({ url: () => url.href }) };
}

test("behind PgBouncer the application sees a wait and no error, there and back", async () => {
  await using clusters = await startMoveClusters();
  const { source, target } = clusters;
  await makeApplication(source);
  await using pgbouncer = await startPgBouncer({
    databases: `litellm = host=127.0.0.1 port=${source.port} dbname=litellm`,
    users: { [application.user]: application.password },
  });
  const admin = pgbouncer.admin.replace("@", `:${encodeURIComponent(pgbouncer.adminPassword)}@`);
  const where = `pgbouncer: { admin: ${JSON.stringify(admin)}, databases: [litellm], configFile: ${pgbouncer.configFile} }`;
  const { pgkit, writer } = await behindProxy([where], pgbouncer.port, clusters);
  await using _ = pgkit;
  try {
    await writer.more(50);
    writer.resetGap();
    const moved = await pgkit.json<MoveJson>(["move", "litellm", "--to", "external"]);
    await writer.more(50);
    expect([moved.state, writer.errors]).toEqual(["switched", []]);
    // The client waited about as long as pgkit says that it blocked writes.
    expect(Math.abs(writer.longestGapMs() - moved.writeBlockedMs)).toBeLessThan(2000);
    expect(
      await target.psql(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'litellm' AND usename = 'litellm_user'",
      ),
    ).toBe("t");
    const back = await pgkit.json<MoveJson>(["move", "rollback", "litellm"]);
    await writer.more(50);
    expect([back.state, writer.errors]).toEqual(["rolled-back", []]);
  } finally {
    await writer.stop();
  }
  await expectEveryRow(source, writer);
}, 180_000);

test("behind HAProxy the server is replaced by a managed one, and no component is touched", async () => {
  await using clusters = await startMoveClusters();
  const { source, target } = clusters;
  await makeApplication(source);
  await using haproxy = await startHaProxy({ backend: `server pg 127.0.0.1:${source.port} check` });
  const where = `haproxy: { socket: "127.0.0.1:${haproxy.socketPort}", backend: postgres, server: pg }`;
  const admin = { name: "admin", password: "admin-secret" };
  await target.psql(`CREATE ROLE admin LOGIN CREATEDB CREATEROLE REPLICATION PASSWORD '${admin.password}'`);
  // Before 16 only superusers may subscribe.
  const [way, more] = target.major >= 16 ? ["--online", ", pg_create_subscription"] : ["--offline", ""];
  await target.psql(`GRANT pg_monitor, pg_signal_backend${more} TO admin`);
  const { pgkit, writer } = await behindProxy([where], haproxy.port, clusters, admin);
  await using _ = pgkit;
  try {
    await writer.more(20);
    const moved = await pgkit.json<MoveJson>(["move", "litellm", "--to", "external", way]);
    await writer.more(20);
    expect(moved.state).toBe("switched");
    expect((await pgkit.json<MoveJson>(["move", "finish", "litellm", "--yes"])).state).toBe("finished");
    await writer.more(20);
  } finally {
    await writer.stop();
  }
  await expectEveryRow(target, writer);
  expect(await source.psql("SELECT count(*) FROM pg_database WHERE datname = 'litellm'")).toBe("0");
}, 180_000);
