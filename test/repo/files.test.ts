import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { collect } from "../../src/lib/streams.ts";
import { readFile, writeFile } from "../../src/repo/files.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { repositoryIn } from "./support.ts";

const bytes = Buffer.from(Array.from({ length: 3500 }, (_, at) => at % 251));

async function* pieces(): AsyncGenerator<Uint8Array> {
  for (const [from, to] of [[0, 700] as const, [700, 2600] as const, [2600, 3500] as const])
    yield bytes.subarray(from, to);
}

test.each([
  { volumeBytes: 1000, volumes: 4 },
  { volumeBytes: 3500, volumes: 1 },
])("what is stored as it is, in $volumes volumes, has its own checksum, and is read back checked", async (given) => {
  const repository = { ...(await repositoryIn(memoryStore())), volumeBytes: given.volumeBytes };
  const { file } = await writeFile(
    repository,
    "backups/main/one",
    { name: "base.tar.zst", role: "base", compressed: true },
    pieces(),
  );
  expect(file).toMatchObject({ encoding: [], plainBytes: bytes.length });
  expect(file.volumes.length).toBe(given.volumes);
  expect(file.plainSha256).toBe(createHash("sha256").update(bytes).digest("hex"));
  expect(await collect(readFile(repository, file))).toEqual(bytes);

  const [first] = file.volumes;
  const changed = Buffer.from(bytes.subarray(0, first?.storedBytes));
  changed[500] = 255;
  await repository.store.put(first?.key ?? "", changed);
  await expect(collect(readFile(repository, file))).rejects.toMatchObject({ code: "object-corrupt" });
});
