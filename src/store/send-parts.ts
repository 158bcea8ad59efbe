import type { Readable } from "node:stream";
import { discard } from "./body.ts";
import { throwIfCancelled } from "./cancel.ts";
import type { Part } from "./parts.ts";

export interface SendPartsOptions<T> {
  /** How many are under way at once. */
  parallel: number;
  /** Where the parts come from; it is ended as soon as one part fails, as it may otherwise give nothing more for ever. */
  body: Readable | Uint8Array;
  signal: AbortSignal | undefined;
  /** Stores one part; `number` counts from 1. Called in the order of parts. */
  send: (part: Part, number: number, signal: AbortSignal) => Promise<T>;
}

/** Sends all parts, and gives what each answered, in their order. Fails with the first failure, when none is under way. */
export async function sendParts<T>(
  first: Part,
  rest: AsyncGenerator<Part>,
  options: SendPartsOptions<T>,
): Promise<{ sent: T[]; bytes: number }> {
  const sender = senderOf(options);
  try {
    await sender.begin(first);
    for await (const part of rest) {
      await sender.begin(part);
      if (sender.failures.length > 0) break;
    }
  } catch (error) {
    sender.fail(error);
  }
  const sent = await sender.end();
  throwIfCancelled(options.signal);
  return sent;
}

function senderOf<T>({ parallel, body, signal, send }: SendPartsOptions<T>) {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const sent: T[] = [];
  const underWay = new Set<Promise<void>>();
  let [bytes, count] = [0, 0];
  const fail = (error: unknown) => {
    failures.push(error);
    stop.abort();
    discard(body);
  };
  const begin = async (part: Part) => {
    while (underWay.size >= parallel) await Promise.race(underWay);
    if (failures.length > 0) return;
    count += 1;
    bytes += part.bytes.length;
    const number = count;
    const sending = send(part, number, either)
      .then((answer) => {
        sent[number - 1] = answer;
      }, fail)
      .finally(() => {
        part.free();
        underWay.delete(sending);
      });
    underWay.add(sending);
  };
  const end = async () => {
    await Promise.all(underWay);
    if (failures.length > 0) throw failures[0];
    return { sent, bytes };
  };
  return { begin, fail, end, failures };
}
