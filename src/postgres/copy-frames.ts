/** What a reader of one side's messages is told. */
export interface FrameListener {
  /** Whole or cut pieces of CopyData messages, headers and all, in order: what may be sent on as it is. */
  onCopyData(bytes: Buffer): void;
  /** Any other message: its type's letter and its content. */
  onMessage(type: string, content: Buffer): void;
}

const headerBytes = 5;
const copyData = 0x64;

/**
 * Splits what a server sends into runs of CopyData messages and all others, looking at no more than the headers: type and
 * length, https://www.postgresql.org/docs/current/protocol-overview.html. Feed it every piece as it comes.
 */
export function frameReader({ onCopyData, onMessage }: FrameListener): (piece: Buffer) => void {
  /** The beginning of a message that is not whole, and of which nothing was told. */
  let held: Buffer = Buffer.alloc(0);
  /** Bytes of a CopyData message that are still to come. */
  let owed = 0;
  return (piece) => {
    const bytes = held.length === 0 ? piece : Buffer.concat([held, piece]);
    let position = Math.min(owed, bytes.length);
    owed -= position;
    let told = 0;
    const tell = () => {
      if (position > told) onCopyData(bytes.subarray(told, position));
    };
    while (bytes.length - position >= headerBytes) {
      const end = position + 1 + lengthAt(bytes, position + 1);
      if (bytes[position] === copyData) {
        owed = Math.max(0, end - bytes.length);
        position = Math.min(end, bytes.length);
        continue;
      }
      if (end > bytes.length) break;
      tell();
      onMessage(String.fromCharCode(bytes[position] ?? 0), bytes.subarray(position + headerBytes, end));
      position = end;
      told = end;
    }
    tell();
    // A copy, so that a few bytes do not keep the whole piece.
    held = Buffer.from(bytes.subarray(position));
  };
}

/** Up to 1 GiB, so never negative; readUInt32BE was measured to take twice as long, once a row. */
function lengthAt(bytes: Buffer, at: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
  return (a << 24) | (b << 16) | (c << 8) | d;
}

/** `SELECT ...` and the like as a Query message. */
export function queryMessage(sql: string): Buffer {
  return message("Q", Buffer.from(`${sql}\0`));
}

export const copyDoneMessage: Buffer = message("c", Buffer.alloc(0));

function message(type: string, content: Buffer): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.write(type, "latin1");
  header.writeUInt32BE(content.length + 4, 1);
  return Buffer.concat([header, content]);
}

/** An ErrorResponse as the driver itself would give it: https://www.postgresql.org/docs/current/protocol-error-fields.html. */
export function errorOf(content: Buffer): Error {
  const fields = new Map<string, string>();
  for (const field of content.toString("utf8").split("\0"))
    if (field !== "") fields.set(field.slice(0, 1), field.slice(1));
  const where = fields.get("W");
  const text = [
    fields.get("M") ?? "an error without a message",
    ...(where === undefined ? [] : [where.split("\n")[0]]),
  ];
  return Object.assign(new Error(text.join(", at ")), {
    code: fields.get("C") ?? "XX000",
    severity: fields.get("V") ?? fields.get("S") ?? "ERROR",
    ...(fields.has("H") ? { hint: fields.get("H") } : {}),
  });
}
