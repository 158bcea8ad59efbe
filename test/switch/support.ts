import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { EndpointAddress } from "../../src/switch/switcher.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";

/** Two servers with the application's database, which say apart which one answers: by their ports. */
export interface TwoServers {
  source: Cluster;
  target: Cluster;
  from: EndpointAddress;
  to: EndpointAddress;
  [Symbol.asyncDispose](): Promise<void>;
}

export const login = { user: "litellm_user", password: "s3cret:'word" };

export async function startTwoServers(): Promise<TwoServers> {
  const [source, target] = await Promise.all([startCluster(), startCluster()]);
  for (const cluster of [source, target]) {
    await cluster.psql(`CREATE ROLE ${login.user} LOGIN PASSWORD '${login.password.replaceAll("'", "''")}'`);
    await cluster.psql(`CREATE DATABASE litellm OWNER ${login.user}`);
    await cluster.psql(`SET ROLE ${login.user}; CREATE TABLE entries (n int PRIMARY KEY)`, "litellm");
  }
  const at = ({ host, port }: Cluster) => ({ host, port, database: "litellm" });
  return {
    ...{ source, target, from: at(source), to: at(target) },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([source[Symbol.asyncDispose](), target[Symbol.asyncDispose]()]);
    },
  };
}

/** Which server answers whoever logs in there as the application. */
export async function portBehind(host: string, port: number, database = "litellm"): Promise<number> {
  const client = await connectAs({ host, port, database });
  try {
    return (await client.query("SELECT inet_server_port() AS port")).rows[0].port;
  } finally {
    await client.end();
  }
}

export async function connectAs(at: EndpointAddress): Promise<pg.Client> {
  const client = new pg.Client({ ...at, ...login, connectionTimeoutMillis: 10_000 });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
