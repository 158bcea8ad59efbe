import { isUtf8 } from "node:buffer";
import { PgkitError } from "./errors.ts";

export interface TarEntry {
  /** As the archive has it, without a slash at its end. Not checked: it may be absolute or hold `..`. */
  path: string;
  type: "file" | "directory" | "symlink";
  /** Bytes of the body; 0 for a directory and a symlink. */
  size: number;
  /** Permission bits, such as 0o600. */
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since 1970. */
  mtime: number;
  /** Where a symlink points. */
  linkTarget?: string;
}

/** Of the header that follows: what pax records or GNU's long names say instead of the header's own fields. */
export type Overrides = Partial<Record<"path" | "linkpath" | "size" | "mtime" | "uid" | "gid", string>>;

export const blockBytes = 512;

/** What one header block says. `kind` is its type flag, `size` that of what follows it. */
export interface Header extends Omit<TarEntry, "type"> {
  kind: string;
}

/** Parses a header block. Fails with `object-corrupt` when its checksum is not that of its bytes. */
export function parseHeader(block: Buffer, overrides: Overrides, where: string): Header {
  if (octal(block, 148, 8) !== checksumOf(block)) throw tarError(where, "the checksum of a header is wrong");
  const prefix = block.toString("latin1", 257, 262) === "ustar" && block[263] !== 0x20 ? text(block, 345, 155) : "";
  const name = text(block, 0, 100);
  const path = overrides.path ?? (prefix === "" ? name : `${prefix}/${name}`);
  const linkTarget = overrides.linkpath ?? text(block, 157, 100);
  const header: Header = {
    path: path.replace(/(?<=.)\/+$/, ""),
    kind: String.fromCharCode(block[156] ?? 0),
    size: overridden(overrides.size, block, 124, 12),
    mode: number(block, 100, 8) & 0o7777,
    uid: overridden(overrides.uid, block, 108, 8),
    gid: overridden(overrides.gid, block, 116, 8),
    mtime: overridden(overrides.mtime, block, 136, 12),
    ...(linkTarget === "" ? {} : { linkTarget }),
  };
  if (!Number.isSafeInteger(header.size) || header.size < 0) {
    throw tarError(where, `the size of ${header.path} is not a number of bytes`);
  }
  return header;
}

/** The records of a pax header: `27 path=base/1/1259\n`, the length being that of the whole record in bytes. */
export function parsePax(body: Buffer, where: string): Overrides {
  const overrides: Overrides = {};
  for (let offset = 0; offset < body.length; ) {
    const space = body.indexOf(0x20, offset);
    const length = space < 0 ? Number.NaN : Number(body.toString("latin1", offset, space));
    const end = offset + length;
    if (!(length > space - offset + 2) || end > body.length || body[end - 1] !== 0x0a) {
      throw tarError(where, "a pax header is malformed");
    }
    const record = body.toString("utf8", space + 1, end - 1);
    const equals = record.indexOf("=");
    const key = record.slice(0, equals);
    if (isOverride(key)) overrides[key] = record.slice(equals + 1);
    offset = end;
  }
  return overrides;
}

export function tarError(where: string, what: string): PgkitError {
  return new PgkitError("object-corrupt", `${where} is not a whole tar archive: ${what}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
  });
}

function isOverride(key: string): key is keyof Overrides {
  return ["path", "linkpath", "size", "mtime", "uid", "gid"].includes(key);
}

/** The field itself counts as spaces. */
function checksumOf(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let index = 0; index < blockBytes; index++) if (index < 148 || index >= 156) sum += block[index] ?? 0;
  return sum;
}

function text(block: Buffer, start: number, length: number): string {
  const end = block.indexOf(0, start);
  const bytes = block.subarray(start, end < 0 || end > start + length ? start + length : end);
  // A name that is no UTF-8 keeps its bytes one to a character, as with those of backup_manifest.
  return bytes.toString(isUtf8(bytes) ? "utf8" : "latin1");
}

function overridden(override: string | undefined, block: Buffer, start: number, length: number): number {
  return override === undefined ? number(block, start, length) : Number(override);
}

/** Octal digits, or, for what they cannot hold (8 GiB and more), a binary number marked by its first bit. */
function number(block: Buffer, start: number, length: number): number {
  if (((block[start] ?? 0) & 0x80) === 0) return octal(block, start, length);
  let value = (block[start] ?? 0) & 0x7f;
  for (let index = start + 1; index < start + length; index++) value = value * 256 + (block[index] ?? 0);
  return value;
}

function octal(block: Buffer, start: number, length: number): number {
  const digits = text(block, start, length).trim();
  if (digits === "") return 0;
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}
