import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { expect, it } from "vitest";
import { inPieces } from "../bodies.ts";
import { all, uploadsOf } from "../outcome.ts";
import type { Expected, Folder, Given } from "./given.ts";

export function proving(
  given: Given,
  folder: Folder,
  { capabilities: can, partBytes: part = 100_000, provesParts = true }: Expected,
): void {
  it("says that an object is proven where the store computed its checksum or read it back, and else not", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const by = can.checksum === "read-back" ? "read-back" : can.checksum !== "none" && "store-checksum";
    const proven = async (body: Readable | Uint8Array) => (await store.put(key, body)).proven;
    expect(await proven(randomBytes(10))).toBe(by);
    expect(await proven(inPieces(randomBytes(10)))).toBe(by);
    expect(await proven(inPieces(randomBytes(3 * part)))).toBe(provesParts && by);
    await store.delete([key]);
  });

  it("leaves nothing behind", async () => {
    expect(await all(given().list(""))).toEqual([]);
    expect(await uploadsOf(given())).toEqual([]);
  });
}
