import { expect, test } from "vitest";
import { parseLsn } from "../../src/lib/lsn.ts";
import { positionOn, timelinePath } from "../../src/wal/stream-path.ts";

const at = (lsn: string, timeline = 1) => ({ timeline, lsn: parseLsn(lsn) });
const promoted = timelinePath(2, "1\t0/5000000\tno recovery target specified\n");

test("what is stored of a server counts on its own timeline, and up to where it left an earlier one", () => {
  expect(positionOn(timelinePath(1, undefined), at("0/4000000"), parseLsn("0/4000100"))).toEqual(at("0/4000000"));
  expect(positionOn(promoted, at("0/4000000"), parseLsn("0/6000000"))).toEqual(at("0/4000000"));
  expect(positionOn(promoted, at("0/7000000"), parseLsn("0/6000000"))).toEqual(at("0/5000000"));
  expect(positionOn(promoted, at("0/6000000", 2), parseLsn("0/6000000"))).toEqual(at("0/6000000", 2));
});

test("of a server that was put back to a moment before it says nothing, or the slot would run ahead of what is stored", () => {
  const first = timelinePath(1, undefined);
  expect(positionOn(first, at("0/6000000", 2), parseLsn("0/7000000"))).toBeUndefined();
  expect(positionOn(first, at("0/6000000"), parseLsn("0/5000000"))).toBeUndefined();
});
