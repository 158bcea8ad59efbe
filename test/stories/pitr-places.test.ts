import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { run } from "../cli/run.ts";
import { openFolder } from "../restore/cluster-support.ts";
import { type Passing, startProxy } from "../store/proxy.ts";
import { startAzurite } from "../support/azurite.ts";
import { eventually } from "../support/eventually.ts";
import { startS3 } from "../support/s3.ts";
import { type Archiving, startArchiving } from "../wal/archiving.ts";
import { momentOf, openedRow } from "./rounds-support.ts";

interface Store {
  url: string;
  /** Behind this there may be a proxy. */
  endpoint: string;
  storage(endpoint: string): Record<string, string>;
}

async function inS3(): Promise<Store> {
  const { endpoint, region, accessKeyId, secretAccessKey, newBucket } = await startS3("old");
  const storage = (at: string) => ({ endpoint: at, region, accessKeyId, secretAccessKey });
  return { url: `s3://${await newBucket()}/prod`, endpoint, storage };
}

async function inAzure(): Promise<Store> {
  const { endpoint, account, key, newContainer } = await startAzurite();
  const { origin, pathname } = new URL(endpoint);
  const storage = (at: string) => ({ endpoint: `${at}${pathname}`, accountKey: key });
  return { url: `azure://${account}/${await newContainer()}/prod`, endpoint: origin, storage };
}

test.each([
  { name: "S3", place: inS3 },
  { name: "Azure", place: inAzure },
])(
  "$name, encrypted: archived, backed up, fetched, and restored to a moment over a line that breaks",
  {
    timeout: 300_000,
  },
  async ({ place }) => {
    const { url, endpoint, storage } = await place();
    const folder = await mkdtemp(join(tmpdir(), "pgkit-places-"));
    const identity = await generateIdentity();
    const linesFor = (at: string) => [
      `repository: ${url}`,
      `storage: ${JSON.stringify(storage(at))}`,
      `encryption: { recipients: [RECIPIENT], identityFile: ${join(folder, "key")} }`,
    ];
    await openFolder(folder);
    await writeFile(join(folder, "key"), `${identity}\n`, { mode: 0o644 });
    const recipient = await identityToRecipient(identity);
    const lines = (at: string) => linesFor(at).map((line) => line.replace("RECIPIENT", recipient));
    await using archiving = await startArchiving({
      repository: async () => ({ lines: lines(endpoint), url, storage: storage(endpoint), identity }),
    });
    const { cluster } = archiving;
    // Two of three ranges of 4 MiB and a bit: random text halves.
    await cluster.psql(
      "CREATE TABLE big AS SELECT md5(random()::text) || md5(random()::text) AS t FROM generate_series(1, 350000)",
    );
    await cluster.psql("CREATE TABLE written AS SELECT 'A' AS name");
    const yaml = (at: string) =>
      `${lines(at).join("\n")}\ninstances:\n  main:\n    url: ${JSON.stringify(cluster.url())}\n    archive: { parallel: 3 }\n`;
    const pgkit = (args: readonly string[], at = endpoint) =>
      run([...args, "--json"], { files: { "pgkit.yaml": yaml(at) } });
    const backup = await pgkit(["backup", "base"]);
    expect(backup.status, backup.stderr).toBe(0);
    await cluster.psql("INSERT INTO written VALUES ('B')");
    const moment = await momentOf(cluster);
    await cluster.psql("INSERT INTO written VALUES ('C')");
    await fetched(archiving, folder);
    const cut: string[] = [];
    const proxy = await startProxy(endpoint, (passing) => breaks(passing, cut));
    try {
      const dataDir = join(folder, "data");
      const restored = await pgkit(["restore", "--data-dir", dataDir, "--start", "--to-time", moment], proxy.endpoint);
      expect(restored.status, restored.stderr).toBe(0);
      const ranges = proxy.seen.flatMap((each) => (isBase(each) ? [rangeOf(each) ?? "none"] : []));
      // 4 MiB each, all of them asked for by range, and those that were cut from where they ended.
      const starts = ranges.map((range) => Number(/bytes=(\d+)-/.exec(range)?.[1]));
      expect(starts.filter((start) => start % 2 ** 22 === 0).length).toBeGreaterThan(2);
      expect(starts.filter((start) => start % 2 ** 22 === 300_000).length, `${ranges}`).toBeGreaterThan(1);
      expect(cut.some((key) => key.includes("/wal/"))).toBe(true);
      const sql = "SELECT string_agg(name, '' ORDER BY name) || (SELECT count(*) FROM big) AS found FROM written";
      expect(await openedRow(cluster, dataDir, sql)).toEqual({ found: "AB350000" });
    } finally {
      await proxy.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
);

/** All that is there by now is archived, and comes back by restore_command's own program as it was. */
async function fetched(archiving: Archiving, folder: string): Promise<void> {
  const { cluster } = archiving;
  const name = await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
  await eventually(async () => expect(await archiving.archived()).toContain(name), 90_000);
  const target = join(folder, "fetched");
  const found = await archiving.pgkit(["wal", "fetch", name, target]);
  expect(found.status, found.said).toBe(0);
  expect((await readFile(target)).equals(await readFile(join(cluster.dataDir, "pg_wal", name)))).toBe(true);
  const absent = await archiving.pgkit(["wal", "fetch", `0000000${"9".repeat(17)}`, target]);
  expect(absent.status, absent.said).toBe(1);
}

/** The first answer of each large range, and of each WAL segment, ends in its middle. */
function breaks(passing: Passing, cut: string[]): { cutAfter: number } | undefined {
  const { method, url } = passing;
  const segment = /\/wal\/.*\/[0-9A-F]{24}\.zst/.test(url);
  const what = segment ? url : `${url} ${rangeOf(passing)}`;
  if (method !== "GET" || !(isBase(passing) || segment) || cut.includes(what) || cut.length > 12) return undefined;
  // A range that goes on behind a cut is not cut again.
  if (isBase(passing) && !/bytes=(0|4194304|8388608)-/.test(rangeOf(passing) ?? "")) return undefined;
  cut.push(what);
  return { cutAfter: segment ? 100 : 300_000 };
}

function isBase({ method, url }: Passing): boolean {
  return method === "GET" && url.includes("base.tar.zst");
}

/** Azure's client names it by a header of its own. */
function rangeOf({ headers }: Passing): string | undefined {
  return headers.range ?? headers["x-ms-range"]?.toString();
}
