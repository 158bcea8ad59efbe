import { expect, test } from "vitest";
import { nearest } from "../../src/lib/nearest.ts";
import { formatBytes, formatDuration, parseBytes, parseDuration } from "../../src/lib/parse.ts";

test.each([
  ["14d", 14 * 86_400_000],
  ["1h30m", 5_400_000],
  ["30m", 1_800_000],
  ["250ms", 250],
  ["1.5h", 5_400_000],
  ["2w", 14 * 86_400_000],
  ["0s", 0],
])("%s is a duration", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(["", "14", "d", "1 hour", "-1h", "1h 30", "1e9d", "9999999999999999w"])("%s is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  ["64MiB", 64 * 1024 ** 2],
  ["1.5 GiB", 1.5 * 1024 ** 3],
  ["500kB", 500_000],
  ["2T", 2 * 1024 ** 4],
  ["4096", 4096],
  ["10b", 10],
])("%s is a size", (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(["", "MiB", "-1", "1iB", "1 PiB!", "a64MiB"])("%s is no size", (text) => {
  expect(parseBytes(text)).toBeUndefined();
});

test("durations and sizes are written for people", () => {
  expect([0, 400, 12_000, 90_000, 3_600_000, 5_400_000, 183_600_000].map(formatDuration)).toEqual([
    ...["0.0 s", "0.4 s", "12 s", "1m 30s", "1h", "1h 30m", "2d 3h"],
  ]);
  expect([0, 512, 1229, 52_428_800_000].map(formatBytes)).toEqual(["0 B", "512 B", "1.2 KiB", "48.8 GiB"]);
});

test("the nearest word is a typo away, and none is guessed where none is near", () => {
  const words = ["repository", "repositories", "pathStyle", "keepDaily"];
  expect(nearest("repositry", words)).toBe("repository");
  expect(nearest("path_style", words)).toBe("pathStyle");
  expect(nearest("keepDialy", words)).toBe("keepDaily");
  expect(nearest("bucket", words)).toBeUndefined();
});
