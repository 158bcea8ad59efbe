import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../cli/run.ts";
import { startProxy } from "../store/proxy.ts";
import { type AzureServer, startAzurite } from "../support/azurite.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { buildProgram, runProgram } from "./process.ts";
import { configured, databasesOf, errorOf, expectRefusal, makeDatabase, type Refusal } from "./support.ts";

let cluster: Cluster;
let s3: S3Server;
let azure: AzureServer;
let bucket = "";
let expired: { server: Server; url: string };

beforeAll(async () => {
  [cluster, s3, azure, expired] = await Promise.all([startCluster(), startS3("old"), startAzurite(), startExpired()]);
  await makeDatabase(cluster, "app");
  bucket = await s3.newBucket();
});

afterAll(async () => {
  expect(await databasesOf(cluster)).toEqual(["app", "postgres"]);
  expired.server.close();
  await cluster[Symbol.asyncDispose]();
});

/** What S3 answers to credentials that were temporary: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
async function startExpired(): Promise<{ server: Server; url: string }> {
  const server = createServer((_, response) => {
    const body = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
    response.writeHead(400, { "content-type": "application/xml" }).end(body);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

interface Place {
  repository: string;
  storage: Record<string, string>;
}

function rightS3(): Place {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3;
  return { repository: `s3://${bucket}/prod`, storage: { endpoint, region, accessKeyId, secretAccessKey } };
}

interface Wrong extends Omit<Refusal, "args" | "options"> {
  what: string;
  place: () => Place | Promise<Place>;
}

const denied = { status: 12, code: "store-denied" };
const unreachable = { status: 13, code: "store-unreachable" };

const wrong: Wrong[] = [
  {
    ...{ what: "a wrong secret key", ...denied, names: [/bucket test-/, "SignatureDoesNotMatch"], hint: "secret" },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, secretAccessKey: "wrong-secret" } }),
  },
  {
    ...{
      what: "an access key that the server does not know",
      ...denied,
      names: ["InvalidAccessKeyId"],
      hint: "access key",
    },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, accessKeyId: "NOSUCHKEY" } }),
  },
  {
    ...{ what: "a user without rights in the bucket", ...denied, names: [/bucket test-/], hint: "may this user" },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, ...s3.denied } }),
  },
  {
    ...{
      what: "credentials that have expired",
      ...denied,
      names: ["ExpiredToken"],
      hint: "have expired: get new ones",
    },
    place: () => ({
      ...rightS3(),
      storage: { ...rightS3().storage, endpoint: expired.url, sessionToken: "old-token" },
    }),
  },
  {
    ...{ what: "a bucket that is not there", status: 10, code: "repository-missing" },
    ...{ names: ["no-such-bucket", /http:\/\/127/], hint: "create the bucket no-such-bucket, or correct its name" },
    place: () => ({ ...rightS3(), repository: "s3://no-such-bucket/prod" }),
  },
  {
    ...{
      what: "an endpoint where nothing listens",
      ...unreachable,
      names: ["127.0.0.1:9"],
      hint: "does the server run",
    },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, endpoint: "http://127.0.0.1:9" } }),
  },
  {
    ...{
      what: "an endpoint whose name does not resolve",
      ...unreachable,
      names: ["no-such-host.invalid"],
      hint: "name",
    },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, endpoint: "http://no-such-host.invalid" } }),
  },
  {
    ...{ what: "a certificate of an authority that is not known", ...unreachable, hint: "storage.caFile" },
    ...{ names: ["https://localhost", /certificate/] },
    place: () => ({ ...rightS3(), storage: { ...rightS3().storage, endpoint: s3.tlsEndpoint } }),
  },
  {
    ...{ what: "a wrong key of an Azure account", ...denied, names: [/container test-/], hint: /./ },
    place: async () => {
      const { endpoint, account } = azure;
      const accountKey = Buffer.from("wrong").toString("base64");
      return { repository: `azure://${account}/${await azure.newContainer()}`, storage: { endpoint, accountKey } };
    },
  },
  {
    ...{ what: "an Azure container that is not there", status: 10, code: "repository-missing" },
    ...{ names: ["no-such-container"], hint: /container/ },
    place: () => {
      const { endpoint, account, key } = azure;
      return { repository: `azure://${account}/no-such-container`, storage: { endpoint, accountKey: key } };
    },
  },
];

test.concurrent.each(wrong)("$what: exit $status", async ({ what: _, place, ...refusal }) => {
  const { repository, storage } = await place();
  const files = configured({ repository, storage, url: cluster.url() });
  for (const args of [
    ["backup", "logical", "app"],
    ["restore", "app", "--as", "copy"],
  ]) {
    await expectRefusal({ ...refusal, args, options: { files } });
  }
  const said = await run(["list", "--json", "--verbose"], { files });
  expect(said.status).toBe(refusal.status);
  for (const secret of [s3.secretAccessKey, azure.key, "wrong-secret", "old-token"])
    expect(said.stderr).not.toContain(secret);
});

test("one repository that is wrong does not keep the other from its backup: exit 3", async () => {
  const { repository, storage } = rightS3();
  const repositories = [
    { name: "right", url: `${repository}-two` },
    { name: "wrong", url: "s3://no-such-bucket/prod" },
  ];
  const ran = await run(["backup", "logical", "app", "--json"], {
    files: configured({ repositories, storage, url: cluster.url() }),
  });
  expect(ran.status).toBe(3);
  expect(JSON.parse(ran.stdout)).toMatchObject({
    backups: [{ database: "app" }],
    failures: [{ repository: "s3://no-such-bucket/prod", code: "repository-missing" }],
  });
});

/** A clock that is wrong by so much, for a program of Node's. */
function clockOff(ms: number): Record<string, string> {
  const code = `const Real = Date, off = ${ms};
    globalThis.Date = class extends Real {
      constructor(...given) { super(...(given.length === 0 ? [Real.now() + off] : given)); }
      static now() { return Real.now() + off; }
    };`;
  return { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(code)}` };
}

test("a clock that is wrong by hours is corrected by the store's, at the cost of few more requests", async () => {
  const program = await buildProgram();
  const { repository, storage } = rightS3();
  const requests: number[] = [];
  for (const offMs of [0, -3_600_000, 2 * 86_400_000]) {
    const proxy = await startProxy(s3.endpoint, () => undefined);
    const place = { repository: `${repository}-${offMs}`, storage: { ...storage, endpoint: proxy.endpoint } };
    const files = configured({ ...place, url: cluster.url() });
    const ended = await runProgram(program, ["backup", "logical", "app", "--json"], { files, env: clockOff(offMs) });
    expect(`${ended.status} ${ended.stderr}`).toMatch(/^0 /);
    requests.push(proxy.seen.length);
    const verified = await run(["verify", "--json"], { files });
    expect(JSON.parse(verified.stdout)).toMatchObject({ results: [{ ok: true }] });
    await proxy.close();
  }
  // What is not there is asked for once then too, not six times.
  const [right = 0, ...wrongClocks] = requests;
  for (const count of wrongClocks) expect(count).toBeLessThan(right + 12);
});

test("a store that is not there is told after its retries, with the error document as the only output", async () => {
  const { repository, storage } = rightS3();
  const files = configured({ repository, storage: { ...storage, endpoint: "http://127.0.0.1:9" }, url: cluster.url() });
  const ran = await run(["prune", "--yes", "--json"], { files });
  expect(ran).toMatchObject({ status: 13, stdout: "" });
  expect(errorOf(ran).error.code).toBe("store-unreachable");
});
