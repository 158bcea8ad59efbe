import { PassThrough, Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { objectBody, readAll } from "../../src/store/body.ts";
import { failsWith } from "./outcome.ts";

function bodyOf(source: Readable, bytes: number, idleMs?: number) {
  const fail = (error: unknown, read: number) => new PgkitError("store-failed", `${String(error)} after ${read}`);
  return objectBody(source, { key: "a", etag: "e", bytes, fail, idleMs });
}

describe("the body of an object", () => {
  it("that ends before its last byte fails", async () => {
    const error = await failsWith("store-failed", readAll(bodyOf(Readable.from([Buffer.alloc(5)]), 6)));
    expect(error.message).toBe("a was cut after 5 of 6 bytes");
  });

  it("that goes on after its last byte fails", async () => {
    await failsWith("store-failed", readAll(bodyOf(Readable.from([Buffer.alloc(7)]), 6)));
  });

  it("whose source is closed without an end, or fails, fails", async () => {
    const closed = new PassThrough();
    const reading = failsWith("store-failed", readAll(bodyOf(closed, 6)));
    closed.write("abc");
    closed.destroy();
    await reading;
    const failed = new PassThrough();
    const failing = failsWith("store-failed", readAll(bodyOf(failed, 6)));
    failed.destroy(new Error("reset"));
    expect((await failing).message).toBe("Error: reset after 0");
  });

  it("that failed before anybody reads it fails whoever reads it then, and not the process", async () => {
    const source = new PassThrough();
    const body = bodyOf(source, 6);
    source.destroy(new Error("reset"));
    await expect.poll(() => body.closed).toBe(true);
    await failsWith("store-failed", readAll(body));
  });

  it("whose source says nothing fails in time, but not while its reader has yet to take what came", async () => {
    const silent = new PassThrough();
    await failsWith("store-failed", readAll(bodyOf(silent, 6, 50)));
    expect(silent.destroyed).toBe(true);
    const full = new PassThrough();
    full.write("abc");
    const body = bodyOf(full, 6, 50);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(body.destroyed).toBe(false);
    full.end("def");
    expect((await readAll(body)).toString()).toBe("abcdef");
  });
});
