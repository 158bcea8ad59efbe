import { type CrcLoops, crcLoops, dataAt, lanesAt, tablesAt } from "./crc32c-wasm.ts";

/**
 * CRC-32C (Castagnoli), which PostgreSQL's backup manifests carry by default; Node has CRC-32 alone, and no instruction that
 * helps. `crc` is that of the bytes before, 0 at first; gives a signed 32-bit number.
 */
export function crc32c(bytes: Uint8Array, crc = 0): number {
  const { memory, one, two, tables, farther, lanes } = kernel();
  let state = ~crc;
  for (let at = 0; at < bytes.length; ) {
    const part = bytes.subarray(at, at + blockBytes);
    at += part.length;
    let done = 0;
    if (part.length >= 16) memory.set(part);
    for (; part.length - done >= 2 * laneBytes; done += 2 * laneBytes) {
      two(state, 0, dataAt + done, dataAt + done + laneBytes);
      state = shifted(lanes[0] as number, farther) ^ (lanes[1] as number);
    }
    const words = done + ((part.length - done) & ~15);
    if (words > done) state = one(state, dataAt + done, dataAt + words);
    state = byBytes(part, words, state, tables);
  }
  return ~state;
}

/** As a manifest has it: the four bytes of the number in the order of a little-endian machine, in hex. */
export function crc32cHex(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(crc);
  return bytes.toString("hex");
}

/** What is copied into the kernel's memory at once: it stays in the processor's cache. */
const blockBytes = 128 * 1024;
/** Two lanes of so many bytes are summed up side by side, since each step of one waits for the last. */
const laneBytes = 8192;

interface Kernel extends Pick<CrcLoops, "one" | "two"> {
  /** Where the bytes go. */
  memory: Uint8Array;
  lanes: Int32Array;
  tables: Int32Array;
  /** Four tables, one for each byte of a state: what it is after `laneBytes` zeros. */
  farther: Int32Array;
}

const made: { kernel?: Kernel } = {};

function kernel(): Kernel {
  made.kernel ??= makeKernel();
  return made.kernel;
}

function makeKernel(): Kernel {
  const { memory, one, two } = crcLoops(laneBytes, blockBytes);
  const { buffer } = memory;
  const tables = new Int32Array(buffer, tablesAt, 16 * 256);
  fillTables(tables);
  return {
    ...{ one, two, tables, farther: tablesAfter(laneBytes, tables) },
    memory: new Uint8Array(buffer, dataAt, blockBytes),
    lanes: new Int32Array(buffer, lanesAt, 2),
  };
}

/** 16 tables of 256: what each byte of a block of 16 adds, the last byte's first. */
function fillTables(tables: Int32Array): void {
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    tables[byte] = value;
  }
  for (let index = 256; index < tables.length; index++) tables[index] = afterZero(at(tables, index - 256), tables);
}

/** A state is linear in its bits, so that those of one bit each after `zeros` zeros give all others. */
function tablesAfter(zeros: number, tables: Int32Array): Int32Array {
  const bits = Array.from({ length: 32 }, (_, bit) => {
    let state = 1 << bit;
    for (let zero = 0; zero < zeros; zero++) state = afterZero(state, tables);
    return state;
  });
  return Int32Array.from({ length: 4 * 256 }, (_, index) => {
    const state = (index & 255) << ((index >> 8) * 8);
    return bits.reduce((sum, ofBit, bit) => ((state >>> bit) & 1 ? sum ^ ofBit : sum), 0);
  });
}

function afterZero(state: number, tables: Int32Array): number {
  return (state >>> 8) ^ at(tables, state & 255);
}

function shifted(state: number, farther: Int32Array): number {
  return (
    at(farther, state & 255) ^
    at(farther, 256 + ((state >>> 8) & 255)) ^
    at(farther, 512 + ((state >>> 16) & 255)) ^
    at(farther, 768 + (state >>> 24))
  );
}

function byBytes(bytes: Uint8Array, from: number, crc: number, tables: Int32Array): number {
  let state = crc;
  for (let index = from; index < bytes.length; index++) {
    state = (state >>> 8) ^ at(tables, (state ^ (bytes[index] as number)) & 255);
  }
  return state;
}

/** Indexes that are out of range cannot occur: masks keep them within a table's 256 entries. */
function at(array: Int32Array, index: number): number {
  return array[index] as number;
}
