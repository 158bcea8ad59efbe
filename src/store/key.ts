import { PgkitError } from "../lib/errors.ts";

const segment = /^[A-Za-z0-9._=+-]+$/;

/** True when `text` may name an object: see the alphabet in store.ts. Longer than 900 bytes is refused by some stores. */
export function isKey(text: string): boolean {
  return text.length <= 900 && text.split("/").every(isSegment);
}

/** True when `text` may be one `/`-separated part of a key. */
export function isSegment(text: string): boolean {
  return segment.test(text) && text !== "." && text !== "..";
}

/** Fails with `bug`: keys are made by `repo/layout.ts` from checked names, so that no name escapes its folder. */
export function assertKey(key: string): void {
  if (!isKey(key)) throw new PgkitError("bug", `${JSON.stringify(key)} is not a key of a store`);
}
