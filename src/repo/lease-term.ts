import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { rfc3339 } from "../lib/time.ts";
import type { ObjectReader, ObjectStore, SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import { leaseFolder, leaseMarkKey, leaseTermKey, leaseTermOf } from "./layout.ts";
import { readObject } from "./repository.ts";

/** Who works: shown to those who find the lease taken, and written into the audit record. */
export interface LeaseHolder {
  host: string;
  pid: number;
  command: string;
}

const dayMs = 24 * 60 * 60 * 1000;

const LeaseRecord = v.object({
  format: v.literal(1),
  holder: v.object({ host: v.string(), pid: v.number(), command: v.string() }),
  /** When the holder took it, by the holder's clock. */
  since: v.string(),
  ttlMs: v.pipe(v.number(), v.minValue(1)),
  /** Tells one holder's terms from another's. */
  token: v.string(),
  released: v.optional(v.literal(true)),
});

export type LeaseRecord = v.InferOutput<typeof LeaseRecord>;

/** One term of a lease: the one with the highest number says whose it is, from `modifiedAt` by the store's clock on. */
export interface LeaseTerm {
  number: number;
  modifiedAt: Date;
  record: LeaseRecord;
}

/** The term that counts, `undefined` where the lease was never taken. Fails with `manifest-corrupt`. */
export async function latestTerm(
  store: ObjectReader,
  name: string,
  options: SignalOption = {},
): Promise<LeaseTerm | undefined> {
  for (;;) {
    const last = (await listTerms(store, name, options)).at(-1);
    if (last === undefined) return undefined;
    try {
      const text = await readObject(store, leaseTermKey(name, last.number), options);
      return { ...last, record: parseRecord(text, `${leaseTermKey(name, last.number)} in ${store.where}`) };
    } catch (error) {
      // It was renewed between the two requests, so that a higher one is there by now.
      if (!isPgkitError(error, "object-missing")) throw error;
    }
  }
}

/** Makes the lease `record`'s from this term on; false when another was first. */
export async function putTerm(
  store: ObjectStore,
  name: string,
  number: number,
  record: LeaseRecord,
  options: SignalOption,
): Promise<boolean> {
  try {
    await putAbsent(store, leaseTermKey(name, number), formatRecord(record), options);
    return true;
  } catch (error) {
    // Missing: another's term of this number was tidied away before it could be compared with ours.
    if (!isPgkitError(error, "condition-failed", "object-missing")) throw error;
    return false;
  }
}

/**
 * How much earlier than its time a holder stops, and how much later another takes over: together they cover the
 * store's rounding of times to seconds, clocks of a store's nodes that differ, and requests still on their way.
 */
export function leaseMarginMs(ttlMs: number): number {
  return ttlMs / 6;
}

/** When, by the store's clock, another may take the lease unless it is renewed. */
export function takeableAt({ record, modifiedAt }: LeaseTerm): Date {
  return new Date(modifiedAt.getTime() + record.ttlMs + leaseMarginMs(record.ttlMs));
}

/** True when somebody holds the lease at this time of the store's clock. */
export function isLive(term: LeaseTerm, storeNow: Date): boolean {
  return term.record.released !== true && storeNow < takeableAt(term);
}

/** For messages: who holds it, since when and until when. */
export function describeTerm(term: LeaseTerm): string {
  const { command, host, pid } = term.record.holder;
  return `${command} on ${host}, process ${pid}, since ${term.record.since}, until ${rfc3339(takeableAt(term))}`;
}

/**
 * The store's own time: that which it gives an object stored now. Terms carry times of the same clock, so that no
 * clock of ours, which may be wrong by years, decides whether another's lease is over.
 */
export async function storeTime(
  store: ObjectStore,
  name: string,
  unique: string,
  options: SignalOption = {},
): Promise<Date> {
  const mark = leaseMarkKey(name, unique);
  await store.put(mark, Buffer.from("to see the store's time\n"), options);
  const info = await store.head(mark, options);
  await store.delete([mark], options);
  if (info === undefined) throw new PgkitError("store-failed", `${store.where} does not have ${mark}, just stored`);
  return info.modifiedAt;
}

/** Removes the terms before `current`, which no longer count, and the marks of runs that were killed long before it. */
export async function tidyTerms(
  store: ObjectStore,
  name: string,
  current: number,
  options: SignalOption,
): Promise<void> {
  const all: { key: string; term: number | undefined; modifiedAt: Date }[] = [];
  for await (const { key, modifiedAt } of store.list(leaseFolder(name), options)) {
    all.push({ key, term: leaseTermOf(key), modifiedAt });
  }
  const currentAt = all.find(({ term }) => term === current)?.modifiedAt.getTime() ?? 0;
  const stale = all.filter(({ term, modifiedAt }) =>
    term === undefined ? modifiedAt.getTime() < currentAt - dayMs : term < current,
  );
  if (stale.length > 0)
    await store.delete(
      stale.map(({ key }) => key),
      options,
    );
}

async function listTerms(
  store: ObjectReader,
  name: string,
  options: SignalOption,
): Promise<{ number: number; modifiedAt: Date }[]> {
  const terms: { number: number; modifiedAt: Date }[] = [];
  for await (const { key, modifiedAt } of store.list(leaseFolder(name), options)) {
    const number = leaseTermOf(key);
    if (number !== undefined) terms.push({ number, modifiedAt });
  }
  return terms;
}

/** The same bytes for every term of a holder, so that a write whose reply was lost is known for its own. */
function formatRecord(record: LeaseRecord): Uint8Array {
  return Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
}

function parseRecord(text: string, where: string): LeaseRecord {
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), LeaseRecord), text);
  if (result.success) return result.output;
  throw new PgkitError("manifest-corrupt", `${where} is not a lease that this pgkit can read`, {
    hint: "a newer pgkit may hold it; when no pgkit is running anywhere, remove that object",
  });
}
