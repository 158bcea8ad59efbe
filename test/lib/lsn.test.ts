import fc from "fast-check";
import { expect, test } from "vitest";
import { formatLsn, parseLsn, parseSegmentName, segmentAt, segmentName, walFileKind } from "../../src/lib/lsn.ts";

const mebibyte = 1024 * 1024;
const sizes = [1, 16, 64, 1024].map((size) => size * mebibyte);

test("an LSN reads as PostgreSQL prints it", () => {
  expect(formatLsn(parseLsn("16/B374D848"))).toBe("16/B374D848");
  expect(parseLsn("1/0")).toBe(0x1_0000_0000n);
  expect(() => parseLsn("16B374D848")).toThrow(/not a WAL position/);
});

// Of `SELECT pg_walfile_name(...)` on servers with these segment sizes.
test.each([
  ["0/1000000", 16, "000000010000000000000001"],
  ["0/FFFFFFFF", 16, "0000000100000000000000FF"],
  ["1/0", 16, "000000010000000100000000"],
  ["2/4000001", 64, "000000010000000200000001"],
  ["1/40000000", 1024, "000000010000000100000001"],
])("the segment of %s with segments of %s MiB is %s", (lsn, size, name) => {
  expect(segmentName(segmentAt(1, parseLsn(lsn), size * mebibyte), size * mebibyte)).toBe(name);
});

test("a segment's name and place are each other's inverse, for every size", () => {
  const place = fc.record({
    timeline: fc.integer({ min: 1, max: 2 ** 31 }),
    lsn: fc.bigInt({ min: 0n, max: 2n ** 63n }),
  });
  fc.assert(
    fc.property(place, fc.constantFrom(...sizes), ({ timeline, lsn }, bytes) => {
      const segment = segmentAt(timeline, lsn, bytes);
      expect(parseSegmentName(segmentName(segment, bytes), bytes)).toEqual(segment);
    }),
  );
});

test.each([
  ["000000010000000000000003", "segment"],
  ["000000010000000000000003.partial", "partial"],
  ["00000002.history", "history"],
  ["000000010000000000000003.00000028.backup", "backup-history"],
  ["000000010000000000000003.ok", undefined],
  ["../000000010000000000000003", undefined],
  ["00000001000000000000000g", undefined],
])("%s is a %s", (name, kind) => {
  expect(walFileKind(name)).toBe(kind);
});
