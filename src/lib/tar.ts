import type { Bytes } from "./streams.ts";
import {
  blockBytes,
  type Header,
  type Overrides,
  parseHeader,
  parsePax,
  type TarEntry,
  tarError,
} from "./tar-header.ts";

export interface TarMember {
  entry: TarEntry;
  /** The bytes of a file, as they came, uncopied; take them before the next member. What is left is skipped. */
  body: Bytes;
}

/** More than any name; a header that claims more is damage. */
const longestExtension = 1024 * 1024;

/**
 * The members of a tar archive in its order: ustar, with pax headers and GNU's long names and sizes. Fails with
 * `object-corrupt` when the archive is cut (also between two members: it ends by a block of zeros) or damaged. `where`
 * names it in errors. What follows the end is read and dropped, so that the source comes to its own end.
 */
export async function* readTar(source: Bytes, where: string): AsyncGenerator<TarMember> {
  const input = inputOf(source, where);
  let overrides: Overrides = {};
  try {
    for (;;) {
      const block = input.ready(blockBytes) ?? (await input.take(blockBytes));
      if (block[0] === 0 && block.every((byte) => byte === 0)) break;
      const header = parseHeader(block, overrides, where);
      const padding = -header.size & (blockBytes - 1);
      if (isExtension(header)) {
        overrides = { ...overrides, ...(await extension(header, input, where)) };
        await input.skip(padding);
        continue;
      }
      overrides = {};
      const entry = entryOf(header, where);
      const body = input.body(entry.size);
      yield { entry, body };
      for await (const _ of body);
      if (entry.size > 0) await input.skip(padding);
    }
    await input.drain();
  } finally {
    await input.close();
  }
}

function isExtension({ kind }: Header): boolean {
  return "xgLK".includes(kind);
}

async function extension({ kind, size }: Header, input: Input, where: string): Promise<Overrides> {
  if (size > longestExtension) throw tarError(where, `a header of kind ${kind} claims ${size} bytes`);
  const bytes = await input.take(size);
  if (kind === "x") return parsePax(bytes, where);
  const name = bytes.toString("utf8").replace(/\0.*$/s, "");
  if (kind === "L") return { path: name };
  return kind === "K" ? { linkpath: name } : {};
}

function entryOf({ kind, linkTarget, ...header }: Header, where: string): TarEntry {
  switch (kind) {
    case "0":
    case "\0":
      return { ...header, type: "file" };
    case "5":
      return { ...header, type: "directory", size: 0 };
    case "2":
      return { ...header, type: "symlink", size: 0, linkTarget: linkTarget ?? "" };
    default:
      throw tarError(where, `${header.path} is of kind ${JSON.stringify(kind)}, which no base backup holds`);
  }
}

interface Input {
  /** The next bytes where they are at hand in one piece. */
  ready(bytes: number): Buffer | undefined;
  take(bytes: number): Promise<Buffer>;
  skip(bytes: number): Promise<void>;
  /** The next bytes in pieces; iterating again goes on where the last time ended. */
  body(bytes: number): Bytes;
  drain(): Promise<void>;
  close(): Promise<void>;
}

function inputOf(source: Bytes, where: string): Input {
  const iterator = source[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array(0);
  const piece = (most: number): Buffer => {
    const taken = Buffer.from(rest.buffer, rest.byteOffset, Math.min(most, rest.length));
    rest = rest.subarray(taken.length);
    return taken;
  };
  const fill = async (): Promise<void> => {
    while (rest.length === 0) {
      const next = await iterator.next();
      if (next.done === true) throw tarError(where, "it ends in the middle");
      rest = next.value;
    }
  };
  const take = async (bytes: number): Promise<Buffer> => {
    const taken = Buffer.alloc(bytes);
    for (let filled = 0; filled < bytes; ) {
      await fill();
      // Copied, as a source may lend each piece only until it is asked for the next.
      filled += piece(bytes - filled).copy(taken, filled);
    }
    return taken;
  };
  return {
    take,
    ready: (bytes) => (rest.length >= bytes ? piece(bytes) : undefined),
    skip: async (bytes) => void (await take(bytes)),
    body: (bytes) => bodyOf(bytes, fill, piece),
    drain: async () => {
      while ((await iterator.next()).done !== true);
    },
    close: async () => void (await iterator.return?.()),
  };
}

function bodyOf(bytes: number, fill: () => Promise<void>, piece: (most: number) => Buffer): Bytes {
  let left = bytes;
  return {
    async *[Symbol.asyncIterator]() {
      while (left > 0) {
        await fill();
        const taken = piece(left);
        left -= taken.length;
        yield taken;
      }
    },
  };
}
