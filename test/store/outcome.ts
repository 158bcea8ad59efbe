import { type ErrorCode, isPgkitError, type PgkitError } from "../../src/lib/errors.ts";
import type { ObjectInfo, ObjectStore } from "../../src/store/store.ts";

export async function all(found: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const infos: ObjectInfo[] = [];
  for await (const info of found) infos.push(info);
  return infos;
}

export async function failsWith(code: ErrorCode, work: Promise<unknown>): Promise<PgkitError> {
  const error = await work.then(
    (result) => new Error(`did not fail, but gave ${JSON.stringify(result)}`),
    (reason: unknown) => reason,
  );
  if (!isPgkitError(error, code)) throw new Error(`expected ${code}, got ${String(error)}`, { cause: error });
  return error;
}

/** Keys of uploads that are neither done nor aborted. */
export async function uploadsOf(store: ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const upload of store.uploads?.list() ?? []) keys.push(upload.key);
  return keys;
}
