import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isPgkitError, type PgkitError } from "../../src/lib/errors.ts";
import { collect } from "../../src/lib/streams.ts";
import type { Repository } from "../../src/repo/repository.ts";
import {
  createLineage,
  findWal,
  type Lineage,
  listLineages,
  listWal,
  putPartial,
  putWal,
  readGaps,
  readLineage,
  readWal,
  recordGap,
  removePartial,
} from "../../src/repo/wal.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { s3Store } from "../../src/store/s3.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { startS3 } from "../support/s3.ts";
import { keysOf, kindsOfStore, repositoryIn } from "./support.ts";

const run = promisify(execFile);
const lineage: Lineage = { instance: "shared", systemId: "7000000000000000001" };
const folder = `wal/shared/${lineage.systemId}`;
const first = "000000010000000000000001";
const second = "000000010000000000000002";
const segmentBytes = 1024 * 1024;
const segment = (fill: number) =>
  Buffer.concat([Buffer.alloc(200_000, fill), randomBytes(1000), Buffer.alloc(823_576)]);

let scratch: string;
const key = { file: "", identity: "", recipient: "" };

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "pgkit-wal-"));
  key.file = join(scratch, "key.txt");
  await run("age-keygen", ["-o", key.file]);
  key.identity = /^(AGE-SECRET-KEY-\S+)$/m.exec((await run("cat", [key.file])).stdout)?.[1] ?? "";
  key.recipient = (await run("age-keygen", ["-y", key.file])).stdout.trim();
});
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

/** As the host of the server is set up: it may encrypt, and not decrypt. */
function encrypting(repository: Repository): Repository {
  return {
    ...repository,
    recipients: [key.recipient],
    identities: () => Promise.reject(new Error("an identity was asked for")),
  };
}

function withIdentity(repository: Repository): Repository {
  return { ...repository, recipients: [key.recipient], identities: async () => [key.identity] };
}

async function codeOf(work: Promise<unknown>): Promise<PgkitError["code"] | undefined> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (error !== undefined && !isPgkitError(error)) throw error;
  return error?.code;
}

async function contentOf(repository: Repository, name: string): Promise<Buffer> {
  const file = await findWal(repository, lineage, name);
  if (file === undefined) throw new Error(`${name} is not there`);
  return await readWal(repository, file);
}

async function namesOf(repository: Repository, options = {}): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of listWal(repository, lineage, options)) names.push(name);
  return names;
}

const stores = [
  ...kindsOfStore.map(({ kind, make }) => ({ kind: kind as string, make })),
  {
    kind: "S3",
    make: async () => {
      const { endpoint, region, accessKeyId, secretAccessKey, newBucket } = await startS3("newest");
      const credentials = { accessKeyId, secretAccessKey };
      return s3Store({ bucket: await newBucket(), prefix: "", region, endpoint, pathStyle: true, credentials });
    },
  },
  { kind: "a store without conditions", make: async () => memoryStore({ lacks: ["createIfAbsent", "compareAndSet"] }) },
  { kind: "a store without checksums", make: async () => memoryStore({ lacks: ["checksum"] }) },
];

describe.each(stores)("WAL in $kind", ({ make }) => {
  test.each([
    ["as it is", (repository: Repository) => repository],
    ["encrypted, by a host that has no identity", encrypting],
  ])("%s: the same again is the same, another content is never stored", async (_, as) => {
    const plain = await repositoryIn(await make());
    const repository = as(plain);
    const content = segment(1);
    expect(await putWal(repository, lineage, first, content)).toBe("stored");
    expect(await putWal(repository, lineage, first, Buffer.from(content))).toBe("same");
    expect(await codeOf(putWal(repository, lineage, first, segment(2)))).toBe("wal-conflict");
    expect((await contentOf(withIdentity(plain), first)).equals(content)).toBe(true);
    expect(await namesOf(repository)).toEqual([first]);
  });

  test("a partial segment grows, and never shrinks", async () => {
    const repository = encrypting(await repositoryIn(await make()));
    const part = (length: number) => Buffer.concat([Buffer.alloc(length, 7), Buffer.alloc(segmentBytes - length)]);
    const one = await putPartial(repository, lineage, second, part(1000));
    expect(one.plainBytes).toBe(1000);
    const two = await putPartial(repository, lineage, second, part(5000), { previous: one });
    await putPartial(repository, lineage, second, part(2000));
    // What it thinks is there was replaced by a longer one meanwhile.
    await putPartial(repository, lineage, second, part(3000), { previous: two });
    expect(await findWal(repository, lineage, second)).toBeUndefined();
    const reader = withIdentity(repository);
    expect(await contentOf(reader, `${second}.partial`)).toEqual(part(5000).subarray(0, 5000));
    expect(await findWal(reader, lineage, `${second}.partial`)).toMatchObject({ kind: "partial" });
    await removePartial(repository, lineage, second);
    expect(await findWal(repository, lineage, `${second}.partial`)).toBeUndefined();
  });
});

test.each(stores.slice(0, 3))("of two at once with different contents, one wins: $kind", async ({ make }) => {
  const store = await make();
  const [one, other] = [await repositoryIn(store), await repositoryIn(store)];
  for (let round = 0; round < 5; round++) {
    const name = `0000000100000000000000${(16 + round).toString(16).toUpperCase()}`;
    const contents = [segment(1), segment(2)] as const;
    const ends = await Promise.allSettled([
      putWal(one, lineage, name, contents[0]),
      putWal(other, lineage, name, contents[1]),
    ]);
    const winner = ends.findIndex(({ status }) => status === "fulfilled");
    const loser = ends.find((end) => end.status === "rejected");
    expect(ends.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(isPgkitError(loser?.reason, "wal-conflict")).toBe(true);
    expect((await contentOf(one, name)).equals(contents[winner] ?? Buffer.alloc(0))).toBe(true);
  }
});

describe("an encrypted WAL file", () => {
  test("is opened by age and zstd, although its header has a note of ours", async () => {
    const repository = encrypting(await repositoryIn(memoryStore()));
    const content = segment(3);
    await putWal(repository, lineage, first, content);
    const stored = await collect(await repository.store.get(`${folder}/00000001/${first}.zst.age`));
    expect(stored.toString("latin1", 0, 1000)).toContain("\n-> pgkit.dev/sha256 ");
    const file = join(scratch, "stored");
    await writeFile(file, stored);
    const { stdout } = await run("sh", ["-c", `age -d -i "${key.file}" "${file}" | zstd -dc`], {
      encoding: "buffer",
      maxBuffer: 1e8,
    });
    expect(stdout.equals(content)).toBe(true);
  });

  test("that was damaged is not taken for the same, also where its note is whole", async () => {
    const repository = encrypting(await repositoryIn(memoryStore()));
    const content = segment(3);
    await putWal(repository, lineage, first, content);
    const at = `${folder}/00000001/${first}.zst.age`;
    const stored = await collect(await repository.store.get(at));
    stored.writeUInt8(stored.readUInt8(stored.length - 1) ^ 1, stored.length - 1);
    await repository.store.put(at, stored);
    expect(await codeOf(putWal(repository, lineage, first, content))).toBe("object-corrupt");
    expect(await codeOf(contentOf(withIdentity(repository), first))).toBe("object-corrupt");
  });

  test("of before encryption was switched off is found, and not stored a second time", async () => {
    const plain = await repositoryIn(memoryStore());
    const content = segment(4);
    await putWal(encrypting(plain), lineage, first, content);
    expect(await putWal(plain, lineage, first, content)).toBe("same");
    expect(await codeOf(putWal(plain, lineage, first, segment(5)))).toBe("wal-conflict");
    expect(await keysOf(plain.store, folder)).toHaveLength(1);
    await putPartial(plain, lineage, second, Buffer.from("short"));
    await putPartial(encrypting(plain), lineage, second, Buffer.from("longer"));
    expect((await contentOf(withIdentity(plain), `${second}.partial`)).toString()).toBe("longer");
    expect(await namesOf(plain)).toEqual([first, `${second}.partial`]);
  });
});

test("what is stored damaged is not acknowledged, and the next try stores it", async () => {
  const store = memoryStore({ lacks: ["checksum"] });
  const repository = await repositoryIn(store);
  const flipping: ObjectStore = {
    ...store,
    put: async (at, body, options) => {
      const bytes = Buffer.from(body as Uint8Array);
      bytes.writeUInt8(bytes.readUInt8(500) ^ 1, 500);
      return await store.put(at, bytes, options);
    },
  };
  const content = segment(1);
  expect(await codeOf(putWal({ ...repository, store: flipping }, lineage, first, content))).toBe("object-corrupt");
  expect(await putWal(repository, lineage, first, content)).toBe("stored");
});

test.each([1, 2, 3])(
  "a store that fails at call %i of a push: an error or stored, and the next one ends well",
  async (call) => {
    for (const does of ["fail", "lose-reply"] as const) {
      const store = memoryStore();
      const repository = await repositoryIn(store);
      const content = segment(1);
      const faulty = faultyStore(store, [{ call, does }]);
      await putWal({ ...repository, store: faulty }, lineage, first, content).then(
        async () => expect((await contentOf(repository, first)).equals(content)).toBe(true),
        (error: unknown) => expect(isPgkitError(error, "store-failed")).toBe(true),
      );
      await putWal(repository, lineage, first, content);
      expect((await contentOf(repository, first)).equals(content)).toBe(true);
    }
  },
);

test("a flipped bit or a missing end of a stored segment is noticed when it is read", async () => {
  const repository = await repositoryIn(memoryStore());
  await putWal(repository, lineage, first, segment(1));
  const at = `${folder}/00000001/${first}.zst`;
  const whole = await collect(await repository.store.get(at));
  const damages = [
    ...[0, 7, 100, whole.length - 2].map((offset) => {
      const bytes = Buffer.from(whole);
      bytes.writeUInt8(bytes.readUInt8(offset) ^ 4, offset);
      return bytes;
    }),
    ...[0, 10, whole.length - 1].map((length) => whole.subarray(0, length)),
  ];
  for (const bytes of damages) {
    await repository.store.put(at, bytes);
    expect(await codeOf(contentOf(repository, first))).toBe("object-corrupt");
  }
});

test("a name that is no WAL file's is refused, and foreign keys are passed over", async () => {
  const repository = await repositoryIn(memoryStore());
  expect(await codeOf(putWal(repository, lineage, "../../pgkit", Buffer.from("x")))).toBe("wal-invalid");
  const names = ["00000001000000000000000A", "00000002.history", "00000002000000000000000A.00000028.backup"];
  for (const name of names) await putWal(repository, lineage, name, Buffer.from(`1\t0/A000000\tno reason\n${name}`));
  await putPartial(repository, lineage, "00000002000000000000000A", Buffer.from("part"));
  await putWal(repository, lineage, "00000002000000000000000A", Buffer.from("whole"));
  const foreign = ["00000001/notes.txt", "00000001/00000002000000000000000B.zst", "00000001/tmp.zst", "README"];
  for (const name of foreign) await repository.store.put(`${folder}/${name}`, Buffer.from("x"));
  await createLineage(repository, { ...lineage, segmentBytes, serverVersion: "17.2" }, fakeClock());
  const all = [
    "00000001000000000000000A",
    "00000002.history",
    "00000002000000000000000A.00000028.backup",
    "00000002000000000000000A.partial",
    "00000002000000000000000A",
  ];
  expect(await namesOf(repository)).toEqual(all);
  expect(await namesOf(repository, { timeline: 1 })).toEqual(all.slice(0, 1));
  expect(await namesOf(repository, { after: "00000001000000000000000A" })).toEqual(all.slice(1));
  expect(await namesOf(repository, { timeline: 2, after: "00000002000000000000000A" })).toEqual([all[2], all[3]]);
});

test("what a promoted server archives of the timeline that it left takes the place of the streamer's shorter part", async () => {
  const repository = await repositoryIn(memoryStore());
  const padded = (length: number) => Buffer.concat([Buffer.alloc(length, 7), Buffer.alloc(segmentBytes - length)]);
  await putPartial(repository, lineage, second, padded(1000));
  expect(await putWal(repository, lineage, `${second}.partial`, padded(4000))).toBe("stored");
  // Its archiver tries again, and a streamer of the old server comes too late.
  expect(await putWal(repository, lineage, `${second}.partial`, padded(4000))).toBe("stored");
  expect(await putWal(repository, lineage, `${second}.partial`, padded(3000))).toBe("same");
  expect(await contentOf(repository, `${second}.partial`)).toEqual(padded(4000).subarray(0, 4000));
});

test("an object lock is set as the settings say, and not on partial segments, which are replaced", async () => {
  const clock = fakeClock("2026-11-21T02:00:00Z");
  const store = memoryStore({ clock });
  const repository = { ...(await repositoryIn(store)), retainMs: 60_000 };
  await putWal(repository, lineage, first, segment(1), { clock });
  await putPartial(repository, lineage, second, segment(1));
  const [locked, free] = [`${first}.zst`, `${second}.partial.zst`].map((name) => `${folder}/00000001/${name}`);
  expect((await store.head(locked ?? ""))?.retainedUntil).toEqual(new Date("2026-11-21T02:01:00Z"));
  expect((await store.head(free ?? ""))?.retainedUntil).toBeUndefined();
});

describe("lineages", () => {
  const facts = { ...lineage, segmentBytes, serverVersion: "17.2" };

  test("are recorded once, also by two at once, and refuse another segment size", async () => {
    const repository = await repositoryIn(memoryStore());
    const clock = fakeClock();
    expect(await readLineage(repository, lineage)).toBeUndefined();
    const made = await Promise.all([1, 2].map(() => createLineage(repository, facts, clock)));
    expect(made[0]).toEqual(made[1]);
    await clock.advance(1000);
    expect(await createLineage(repository, { ...facts, serverVersion: "17.3" }, clock)).toEqual(made[0]);
    const resized = createLineage(repository, { ...facts, segmentBytes: segmentBytes * 2 }, clock);
    expect(await codeOf(resized)).toBe("system-mismatch");
  });

  test("of an instance are listed by age, whatever the number of their files", async () => {
    const repository = await repositoryIn(memoryStore());
    const clock = fakeClock();
    const ids = ["900", "90", "9000", "1"];
    for (const systemId of ids) {
      await createLineage(repository, { ...facts, systemId }, clock);
      await clock.advance(1000);
      for (const name of [first, second]) await putWal(repository, { ...lineage, systemId }, name, Buffer.from(name));
    }
    await createLineage(repository, { ...facts, instance: "shared2" }, clock);
    await repository.store.put("wal/shared/README", Buffer.from("x"));
    await repository.store.put("wal/shared/95/00000001/x", Buffer.from("no lineage.json"));
    expect((await listLineages(repository, "shared")).map(({ systemId }) => systemId)).toEqual(ids);
  });

  test("gaps are recorded and read", async () => {
    const repository = await repositoryIn(memoryStore());
    const clock = fakeClock("2026-11-21T02:00:00Z");
    const gap = { timeline: 1, fromLsn: 0x1_0000_0000n, toLsn: 0x1_0300_0000n, reason: "the slot was dropped" };
    const recorded = await recordGap(repository, lineage, gap, clock);
    expect(await readGaps(repository, lineage)).toEqual([recorded]);
    expect(recorded).toMatchObject({ ...gap, recordedAt: "2026-11-21T02:00:00Z" });
    expect(await collect(await repository.store.get(recorded.key)).then(String)).toContain('"fromLsn": "1/0"');
    await repository.store.put(`${folder}/gaps/broken.json`, Buffer.from("{"));
    expect(await codeOf(readGaps(repository, lineage))).toBe("manifest-corrupt");
  });
});
