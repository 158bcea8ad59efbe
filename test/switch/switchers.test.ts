import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { commandSwitcher } from "../../src/switch/command.ts";
import { parseEndpointUrl } from "../../src/switch/endpoint-url.ts";
import { envFileSwitcher } from "../../src/switch/env-file.ts";
import { haproxySwitcher } from "../../src/switch/haproxy.ts";
import { pgbouncerSwitcher } from "../../src/switch/pgbouncer.ts";
import type { EndpointAddress } from "../../src/switch/switcher.ts";
import { freePort } from "../support/daemon.ts";
import { startHaProxy } from "../support/haproxy.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { type SwitchedPlace, switcherConformance } from "./conformance.ts";
import { login, portBehind, startTwoServers, type TwoServers } from "./support.ts";

let servers: TwoServers;
beforeAll(async () => {
  servers = await startTwoServers();
});
afterAll(async () => await servers?.[Symbol.asyncDispose]());

const nobody = async () => ({ host: "127.0.0.1", port: await freePort(), database: "litellm" });

switcherConformance("pgbouncer", async (): Promise<SwitchedPlace> => {
  const { from, to } = servers;
  const line = ({ host, port, database }: EndpointAddress) => `litellm = host=${host} port=${port} dbname=${database}`;
  const bouncer = await startPgBouncer({ databases: line(from), users: { [login.user]: login.password } });
  const admin = parseConnection(bouncer.admin, secret(bouncer.adminPassword));
  const { configFile } = bouncer;
  return {
    switcher: pgbouncerSwitcher({ admin, databases: ["litellm"], configFile }, { clock: systemClock }),
    ...{ from, to, third: await nobody(), secrets: [bouncer.adminPassword, login.password] },
    pointByHand: async (at) => {
      const text = await readFile(configFile, "utf8");
      await writeFile(configFile, text.replace(/^litellm = .*$/m, line(at)));
      await bouncer.console("RELOAD");
    },
    content: async () => await readFile(configFile, "utf8"),
    reached: () => portBehind("127.0.0.1", bouncer.port),
    remove: () => bouncer.stop(),
    [Symbol.asyncDispose]: bouncer[Symbol.asyncDispose],
  };
});

switcherConformance("haproxy", async (): Promise<SwitchedPlace> => {
  const { from, to } = servers;
  const proxy = await startHaProxy({ backend: `  server pg ${from.host}:${from.port} check inter 200ms` });
  const config = { socket: proxy.socket, backend: "postgres", server: "pg" };
  return {
    switcher: haproxySwitcher(config, { clock: systemClock, database: "litellm", known: [from, to] }),
    ...{ from, to, third: await nobody(), secrets: [login.password] },
    pointByHand: async ({ host, port }) => {
      await proxy.command(`set server postgres/pg addr ${host} port ${port}`);
    },
    content: async () =>
      (await proxy.command("show servers conn postgres")).replaceAll(/^(\S+ \S+ \S+ \d+).*$/gm, "$1"),
    reached: () => portBehind("127.0.0.1", proxy.port),
    remove: () => proxy.stop(),
    [Symbol.asyncDispose]: proxy[Symbol.asyncDispose],
  };
});

switcherConformance("env-file", async (): Promise<SwitchedPlace> => {
  const { from, to } = servers;
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  const path = join(folder, "app.env");
  const url = ({ host, port, database }: EndpointAddress) =>
    `postgresql://${login.user}:${encodeURIComponent(login.password).replaceAll("'", "%27")}@${host}:${port}/${database}`;
  const text = (at: EndpointAddress) => `# the application's\nexport DATABASE_URL="${url(at)}" # keep\nOTHER='x y'\n`;
  await writeFile(path, text(from), { mode: 0o640 });
  const content = async () => await readFile(path, "utf8");
  return {
    switcher: envFileSwitcher({ path, keys: { url: "DATABASE_URL" } }, { database: "litellm", keep: secret }),
    ...{ from, to, third: await nobody(), secrets: [login.password, "s3cret"], content },
    pointByHand: async (at) => await writeFile(path, text(at)),
    reached: async () => {
      const held = /DATABASE_URL="(.*)"/.exec(await content())?.[1] ?? "";
      const { host, port, database } = parseEndpointUrl(held, { where: "the file" });
      return await portBehind(host, port, database);
    },
    remove: async () => await rm(path),
    [Symbol.asyncDispose]: async () => await rm(folder, { recursive: true, force: true }),
  };
});

switcherConformance(
  "command",
  async (): Promise<SwitchedPlace> => {
    const { from, to } = servers;
    const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
    const [program, file] = [join(folder, "switch-litellm"), join(folder, "port")];
    // As a user would write it.
    await writeFile(
      program,
      `#!/bin/sh -e
asked=$(cat)
from=$(echo "$asked" | jq -e .from.port) to=$(echo "$asked" | jq -e .to.port) now=$(cat "$1")
[ "$now" = "$to" ] && exit 0
[ "$now" = "$from" ] || { echo "it is at $now" >&2; exit 3; }
printf %s "$to" > "$1"
`,
    );
    await chmod(program, 0o755);
    await writeFile(file, String(from.port));
    return {
      switcher: commandSwitcher([program, file], { assumed: from }),
      ...{ from, to, third: await nobody(), secrets: [login.password] },
      pointByHand: async ({ port }) => await writeFile(file, String(port)),
      content: async () => await readFile(file, "utf8"),
      reached: async () => await portBehind("127.0.0.1", Number(await readFile(file, "utf8"))),
      remove: async () => await rm(program),
      [Symbol.asyncDispose]: async () => await rm(folder, { recursive: true, force: true }),
    };
  },
  { cannotBeAsked: true },
);
