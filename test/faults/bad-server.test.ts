import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, copyFile, readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import {
  configured,
  databasesOf,
  expectRefusal,
  filesIn,
  fingerprint,
  makeDatabase,
  newFolder,
  succeed,
} from "./support.ts";

let cluster: Cluster;
let silent: { server: Server; port: number };

beforeAll(async () => {
  [cluster, silent] = await Promise.all([startCluster(), listenInSilence()]);
  await makeDatabase(cluster, "app");
});

afterAll(async () => {
  silent.server.close();
  await cluster[Symbol.asyncDispose]();
});

/** Takes connections and says nothing, as a firewall that drops packets does after the handshake. */
async function listenInSilence(): Promise<{ server: Server; port: number }> {
  const server = createServer(() => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return { server, port: typeof address === "object" && address !== null ? address.port : 0 };
}

async function freePort(): Promise<number> {
  const { server, port } = await listenInSilence();
  server.close();
  await once(server, "close");
  return port;
}

/** The cluster's URL with something else in it. */
function urlWith(
  changes: Partial<Record<"user" | "password" | "host" | "port" | "database" | "query", string>>,
): string {
  const { user = cluster.superuser, password = cluster.password, host = cluster.host } = changes;
  const { port = String(cluster.port), database = "postgres", query = "" } = changes;
  return `postgresql://${user}:${password}@${host}:${port}/${database}${query}`;
}

/** Nothing may come of it: neither a repository's backup nor a database. */
async function refusesBackup(url: string, wanted: Omit<Parameters<typeof expectRefusal>[0], "args" | "options">) {
  const repository = await newFolder();
  const before = await databasesOf(cluster);
  await expectRefusal({ args: ["backup", "logical"], options: { files: configured({ repository, url }) }, ...wanted });
  const left = (await filesIn(repository)).filter((path) => !/^(pgkit\.json|leases\/)/.test(path));
  expect(left).toEqual([]);
  expect(await databasesOf(cluster)).toEqual(before);
}

describe.concurrent("a server that cannot be reached", () => {
  test("a port where nothing listens", async () => {
    const port = String(await freePort());
    await refusesBackup(urlWith({ port }), {
      ...{ status: 14, code: "postgres-unreachable", hint: "is the server running" },
      names: [`127.0.0.1:${port}`, "ECONNREFUSED"],
    });
  });

  test("a name that does not resolve", async () => {
    await refusesBackup(urlWith({ host: "no-such-host.invalid" }), {
      ...{ status: 14, code: "postgres-unreachable", hint: "is the host name right" },
      names: ["no-such-host.invalid", /ENOTFOUND|EAI_AGAIN/],
    });
  });

  test("a port that takes connections and says nothing", async () => {
    await refusesBackup(urlWith({ port: String(silent.port), query: "?connect_timeout=1&sslmode=disable" }), {
      ...{ status: 14, code: "postgres-unreachable", hint: "is the server running" },
      names: [`127.0.0.1:${silent.port}`, /timeout|timed out/],
    });
  });

  test("the same while TLS is asked for first", async () => {
    await refusesBackup(urlWith({ port: String(silent.port), query: "?connect_timeout=1" }), {
      ...{ status: 14, code: "postgres-unreachable", hint: "is the server running" },
      names: [`127.0.0.1:${silent.port}`, /timeout|timed out/],
    });
  });
});

describe.concurrent("a server that refuses", () => {
  test("the password", async () => {
    await refusesBackup(urlWith({ password: "wrong-password" }), {
      ...{ status: 12, code: "postgres-denied", hint: "passwordFrom" },
      names: [`127.0.0.1:${cluster.port}`, "postgres", "password authentication failed"],
    });
  });

  test("a role that is not there", async () => {
    await refusesBackup(urlWith({ user: "nobody_here" }), {
      ...{ status: 12, code: "postgres-denied", hint: "passwordFrom" },
      names: [`127.0.0.1:${cluster.port}`, "nobody_here"],
    });
  });

  test("no password at all", async () => {
    await refusesBackup(`postgresql://postgres@127.0.0.1:${cluster.port}/postgres`, {
      ...{ status: 12, code: "postgres-denied", hint: "passwordFrom" },
      names: [`127.0.0.1:${cluster.port}`, "postgres", "none is configured"],
    });
  });

  test("a database to connect to that is not there", async () => {
    await refusesBackup(urlWith({ database: "no_such_database" }), {
      ...{ status: 10, code: "database-missing", hint: "spelled" },
      names: ["no_such_database", `127.0.0.1:${cluster.port}`],
    });
  });

  test("a user who may not read the tables", async () => {
    await cluster.psql("CREATE ROLE limited LOGIN PASSWORD 'limited-password'");
    const repository = await newFolder();
    const files = configured({ repository, url: urlWith({ user: "limited", password: "limited-password" }) });
    await expectRefusal({
      ...{ args: ["backup", "logical", "app"], options: { files }, status: 12, code: "postgres-denied" },
      ...{ names: ["app", /permission denied/], hint: "privileges" },
    });
    expect((await filesIn(repository)).filter((path) => /^(backups|files)\//.test(path))).toEqual([]);
  });

  test("TLS, which the URL requires", async () => {
    await refusesBackup(urlWith({ query: "?sslmode=require" }), {
      ...{ status: 14, code: "postgres-unreachable", hint: "sslmode=prefer" },
      names: [`127.0.0.1:${cluster.port}`, /SSL|TLS/],
    });
  });
});

test.each([
  [["backup", "logical", "ap"], "ap", "it has: app"],
  [["restore", "ap"], "ap", "databases with backups: app"],
])("%j is a database that is not there: exit 10", async (args, name, hint) => {
  const options = { files: configured({ repository: await newFolder(), url: cluster.url() }) };
  await succeed(["backup", "logical", "app"], options);
  const before = await databasesOf(cluster);
  const code = args[0] === "restore" ? "backup-missing" : "database-missing";
  await expectRefusal({ args, options, status: 10, code, names: [`database ${name} `, "shared"], hint });
  expect(await databasesOf(cluster)).toEqual(before);
});

describe("a server with TLS and rules of its own", () => {
  let secured: Cluster;
  let ca: { right: string; wrong: string };

  beforeAll(async () => {
    const folder = await newCertificates();
    ca = { right: join(folder, "ca.crt"), wrong: join(folder, "other.crt") };
    secured = await startCluster();
    for (const name of ["server.crt", "server.key"]) {
      const path = join(secured.dataDir, name);
      await copyFile(join(folder, name), path);
      await chmod(path, 0o600);
      if (secured.runAs !== undefined) await chown(path, secured.runAs.uid, secured.runAs.gid);
    }
    await secured.restart({ ssl: "on" });
  });

  afterAll(async () => await secured[Symbol.asyncDispose]());

  const url = (host: string, query: string) =>
    `postgresql://postgres:${secured.password}@${host}:${secured.port}/postgres${query}`;

  async function refuses(address: string, names: (string | RegExp)[], hint: string) {
    const options = { files: configured({ repository: await newFolder(), url: address }) };
    await expectRefusal({
      ...{ args: ["backup", "logical"], options, status: 14, code: "postgres-unreachable", names, hint },
    });
  }

  test("the right authority and name are let through", async () => {
    const options = {
      files: configured({
        repository: await newFolder(),
        url: url("localhost", `?sslmode=verify-full&sslrootcert=${ca.right}`),
      }),
    };
    expect(await succeed(["backup", "logical", "postgres"], options)).toMatchObject({
      backups: [{ database: "postgres" }],
    });
  });

  test("an authority that did not sign the server's certificate", async () => {
    const address = url("localhost", `?sslmode=verify-full&sslrootcert=${ca.wrong}`);
    await refuses(address, [`localhost:${secured.port}`, /certificate/], "sslrootcert");
  });

  test("no authority at all", async () => {
    await refuses(
      url("localhost", "?sslmode=verify-full"),
      [`localhost:${secured.port}`, /certificate/],
      "sslrootcert",
    );
  });

  test("a name that the certificate does not hold", async () => {
    const address = url("127.0.0.1", `?sslmode=verify-full&sslrootcert=${ca.right}`);
    const names = [`127.0.0.1:${secured.port}`, "is for DNS:localhost, not for 127.0.0.1"];
    await refuses(address, names, "use a name of the certificate");
  });

  test("a file of the authority that is not there", async () => {
    const address = url("localhost", "?sslmode=verify-full&sslrootcert=/no/such/ca.crt");
    const options = { files: configured({ repository: await newFolder(), url: address }) };
    await expectRefusal({
      ...{ args: ["backup", "logical"], options, status: 2, code: "config" },
      ...{ names: ["/no/such/ca.crt"], hint: "sslrootcert" },
    });
  });

  test("no entry in pg_hba.conf", async () => {
    const path = join(secured.dataDir, "pg_hba.conf");
    const before = await readFile(path, "utf8");
    await writeFile(path, `hostnossl all all 127.0.0.1/32 reject\n${before.replaceAll(/^host.*$/gm, "")}`);
    await secured.restart({ ssl: "on" });
    const options = { files: configured({ repository: await newFolder(), url: url("127.0.0.1", "") }) };
    await expectRefusal({
      ...{ args: ["backup", "logical"], options, status: 12, code: "postgres-denied" },
      ...{ names: [`127.0.0.1:${secured.port}`, "pg_hba.conf", "postgres"], hint: /pg_hba/ },
    });
    await writeFile(path, before);
    await secured.restart({ ssl: "on" });
  });
});

/** Two authorities, and a certificate of the first for the name localhost. */
async function newCertificates(): Promise<string> {
  const folder = await newFolder();
  const script = `
    authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj "/CN=$1" \\
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" -keyout "$1.key" -out "$1.crt"; }
    authority ca; authority other
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost' >server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 -extfile server.ext -out server.crt`;
  await promisify(execFile)("bash", ["-euc", script], { cwd: folder });
  return folder;
}

test("what was refused has changed nothing", async () => {
  expect(await databasesOf(cluster)).toEqual(["app", "postgres"]);
  expect(await fingerprint(cluster, "app")).toMatch(/^[0-9a-f]{32}$/);
});
