import { createZstdDecompress, zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { lent, through } from "../../src/lib/streams.ts";
import { readTar } from "../../src/lib/tar.ts";

/** A tar archive of one file and its end, as GNU tar writes it. */
function archiveOf(path: string, body: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write(path, 0);
  header.write("0000600\0", 100);
  header.write(`${body.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("        0", 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, body, Buffer.alloc(-body.length & 511), Buffer.alloc(1024)]);
}

test("lent pieces are whole while they are looked at and hold no memory when the next has come", async () => {
  const plain = Buffer.alloc(1_000_000, "lent ");
  const source = through(
    (async function* () {
      yield zstdCompressSync(plain);
    })(),
    createZstdDecompress({ chunkSize: 64 * 1024 }),
  );
  const seen: Uint8Array[] = [];
  const copies: Buffer[] = [];
  for await (const piece of lent(source)) {
    seen.push(piece);
    copies.push(Buffer.from(piece));
  }
  expect(Buffer.concat(copies).equals(plain)).toBe(true);
  // The last buffer was not filled to its end.
  expect(seen.slice(0, -1).every((piece) => piece.buffer.byteLength === 0)).toBe(true);
  expect(seen.length).toBeGreaterThan(10);
});

test("a tar header that lies across lent pieces is read whole", async () => {
  const bytes = Buffer.concat([
    archiveOf("one", Buffer.alloc(700, 1)).subarray(0, 1536),
    archiveOf("two", Buffer.alloc(900, 2)),
  ]);
  for (const pieceBytes of [100, 511, 1700]) {
    const source = (async function* () {
      for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
        yield new Uint8Array(bytes.subarray(offset, offset + pieceBytes));
      }
    })();
    const found: string[] = [];
    for await (const { entry } of readTar(lent(source), "it")) found.push(`${entry.path} ${entry.size}`);
    expect(found).toEqual(["one 700", "two 900"]);
  }
});
