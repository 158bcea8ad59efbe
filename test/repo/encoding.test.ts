import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isPgkitError } from "../../src/lib/errors.ts";
import { chunksOf, collect } from "../../src/lib/streams.ts";
import { decryptAge, encryptAge } from "../../src/repo/age.ts";
import { decode, encode } from "../../src/repo/encoding.ts";

const run = promisify(execFile);
let folder: string;
const keys: { identity: string; recipient: string; file: string }[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-encoding-"));
  for (const name of ["one", "two", "other"]) {
    const file = join(folder, `${name}.txt`);
    await run("age-keygen", ["-o", file]);
    const [, identity = ""] = /^(AGE-SECRET-KEY-\S+)$/m.exec((await run("cat", [file])).stdout) ?? [];
    const { stdout } = await run("age-keygen", ["-y", file]);
    keys.push({ identity, recipient: stdout.trim(), file });
  }
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const key = (index: number) => keys[index] as (typeof keys)[number];

/** Bytes that neither repeat nor compress to nothing, in pieces of uneven sizes. */
async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let offset = 0, size = 1; offset < bytes.length; offset += size, size = (size * 7 + 3) % 90_001 || 1) {
    yield bytes.subarray(offset, offset + size);
  }
}

const sample = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 131 + (i >> 8) * 17) & 255));

// A chunk of age holds 64 KiB, a frame of ours 1 MiB.
const sizes = [0, 1, 65_535, 65_536, 65_537, 131_072, 1_048_576, 2_500_001];

describe("what pgkit encrypts and compresses", () => {
  test.each(sizes)("%i bytes are read by age -d and zstd -d, for each recipient", async (size) => {
    const plain = sample(size);
    const recipients = [key(0).recipient, key(1).recipient];
    const stored = await collect(
      encode(pieces(plain), { encoding: ["zstd", "age"], compression: { level: 1, threads: 2 }, recipients }),
    );
    const file = join(folder, "stored");
    await writeFile(file, stored);
    for (const { file: identity } of [key(0), key(1)]) {
      const { stdout } = await run("sh", ["-c", `age -d -i "${identity}" "${file}" | zstd -dc`], {
        encoding: "buffer",
        maxBuffer: 10_000_000,
      });
      expect(stdout.equals(plain)).toBe(true);
    }
    await expect(run("age", ["-d", "-i", key(2).file, file])).rejects.toThrow();
  });

  test.each(sizes)("%i bytes by age and zstd are read by pgkit", async (size) => {
    const plain = sample(size);
    const file = join(folder, "plain");
    await writeFile(file, plain);
    const { stdout } = await run("sh", ["-c", `zstd -qc "${file}" | age -r "${key(0).recipient}"`], {
      encoding: "buffer",
      maxBuffer: 10_000_000,
    });
    const identities = () => Promise.resolve([key(2).identity, key(0).identity]);
    expect((await collect(decode(pieces(stdout), ["zstd", "age"], identities, "it"))).equals(plain)).toBe(true);
  });
});

describe("damage", () => {
  const failure = async (work: Promise<unknown>) => work.then(() => undefined).catch((error: unknown) => error);

  test("an age file that is cut at the border of two chunks is not taken for a whole one", async () => {
    const stored = await collect(encryptAge(pieces(sample(200_000)), [key(0).recipient]));
    const headerAndNonce = stored.length - 200_000 - 4 * 16;
    for (const chunks of [0, 1, 2, 3]) {
      const cut = stored.subarray(0, headerAndNonce + chunks * (65_536 + 16));
      const error = await failure(collect(decryptAge(pieces(cut), [key(0).identity], "it")));
      expect(isPgkitError(error, "object-corrupt"), `after ${chunks} chunks`).toBe(true);
    }
  });

  test("one flipped bit anywhere in an age file fails, and so do chunks that changed places", async () => {
    const stored = await collect(encryptAge(pieces(sample(140_000)), [key(0).recipient]));
    const start = stored.length - 140_000 - 3 * 16;
    for (const offset of [0, 30, start - 20, start, start + 70_000, stored.length - 1]) {
      const changed = Buffer.from(stored);
      changed[offset] = (changed[offset] ?? 0) ^ 1;
      const error = await failure(collect(decryptAge(pieces(changed), [key(0).identity], "it")));
      expect(isPgkitError(error, "object-corrupt", "identity-wrong"), `at ${offset}`).toBe(true);
    }
    const chunk = 65_536 + 16;
    const swapped = Buffer.concat([
      stored.subarray(0, start),
      stored.subarray(start + chunk, start + 2 * chunk),
      stored.subarray(start, start + chunk),
      stored.subarray(start + 2 * chunk),
    ]);
    const error = await failure(collect(decryptAge(pieces(swapped), [key(0).identity], "it")));
    expect(isPgkitError(error, "object-corrupt")).toBe(true);
  });

  test("zstd that is cut or changed fails", async () => {
    const options = { encoding: ["zstd" as const], compression: { level: 1, threads: 2 }, recipients: [] };
    const stored = await collect(encode(pieces(sample(2_000_000)), options));
    const changed = Buffer.from(stored);
    changed[stored.length >> 1] = (changed[stored.length >> 1] ?? 0) ^ 1;
    for (const bytes of [stored.subarray(0, stored.length - 3), changed]) {
      const error = await failure(collect(decode(pieces(bytes), ["zstd"], () => Promise.resolve([]), "it")));
      expect(isPgkitError(error, "object-corrupt")).toBe(true);
    }
  });

  test("what is no age recipient is a wrong setting, and a wrong identity is never quoted", async () => {
    const recipient = await failure(collect(encryptAge(pieces(sample(1)), ["ssh-ed25519 AAAA"])));
    expect(isPgkitError(recipient, "config")).toBe(true);
    const stored = await collect(encryptAge(pieces(sample(1)), [key(0).recipient]));
    const secret = `${key(0).identity.slice(0, -1)}!`;
    const identity = await failure(collect(decryptAge(pieces(stored), [secret], "it")));
    expect(isPgkitError(identity, "config")).toBe(true);
    expect(JSON.stringify(identity) + String((identity as Error).stack)).not.toContain(secret.slice(20, 40));
  });
});

test("a stream is cut into pieces of one size, whatever the sizes that it comes in", async () => {
  const bytes = sample(300_000);
  const found: Buffer[] = [];
  for await (const chunk of chunksOf(pieces(bytes), 7_000)) found.push(chunk);
  expect(Buffer.concat(found).equals(bytes)).toBe(true);
  expect(new Set(found.slice(0, -1).map((chunk) => chunk.length))).toEqual(new Set([7_000]));
});
