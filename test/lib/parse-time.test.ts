import { expect, test } from "vitest";
import { inZone, parseTime } from "../../src/lib/parse-time.ts";

const now = new Date("2026-11-21T12:00:00Z");
const read = (text: string, timeZone = "UTC") => parseTime(text, { now, timeZone });

test.each([
  ["2026-11-21T02:00:00Z", "UTC", "2026-11-21T02:00:00Z", undefined],
  ["2026-11-21T02:00:00+01:00", "America/New_York", "2026-11-21T01:00:00Z", undefined],
  ["2026-11-21 02:00:00.123456-05", "UTC", "2026-11-21T07:00:00.123456Z", undefined],
  ["2026-11-21 02:00", "UTC", "2026-11-21T02:00:00Z", "UTC"],
  ["2026-11-21 02:00:30.5", "UTC", "2026-11-21T02:00:30.5Z", "UTC"],
  ["2026-07-01 02:00", "Europe/Berlin", "2026-07-01T00:00:00Z", "Europe/Berlin"],
  ["2026-12-01 02:00", "Europe/Berlin", "2026-12-01T01:00:00Z", "Europe/Berlin"],
  ["2026-11-21", "UTC", "2026-11-21T00:00:00Z", "UTC"],
  ["-15m", "UTC", "2026-11-21T11:45:00.000Z", undefined],
  ["+1h", "UTC", "2026-11-21T13:00:00.000Z", undefined],
])("%s in %s is %s", (text, timeZone, exact, assumedZone) => {
  expect(read(text, timeZone)).toMatchObject({ exact, assumedZone });
});

test("a moment keeps every digit, and its date the milliseconds", () => {
  expect(read("2026-11-21 02:00:00.123999")).toMatchObject({
    time: new Date("2026-11-21T02:00:00.123Z"),
    exact: "2026-11-21T02:00:00.123999Z",
  });
});

test.each([
  "",
  "yesterday",
  "15m",
  "2026-13-01",
  "2026-02-30 00:00",
  "2026-11-21 25:00",
  "2026-11-21 02",
  "21.11.2026",
])("%s is no time", (text) => {
  expect(read(text)).toHaveProperty("wrong");
});

test("a local time that the clocks skip or repeat is refused, with what can be written instead", () => {
  expect(read("2026-03-29 02:30", "Europe/Berlin")).toEqual({
    wrong: "does not exist in Europe/Berlin: a clock change skips it",
  });
  expect(read("2026-10-25 02:30", "Europe/Berlin")).toEqual({
    wrong: "happens twice in Europe/Berlin: write 2026-10-25T00:30:00Z or 2026-10-25T01:30:00Z",
  });
});

test("a moment is shown on the clocks of a zone with their offset", () => {
  expect(inZone(now, "UTC")).toBe("2026-11-21 12:00:00 +00:00");
  expect(inZone(now, "America/St_Johns")).toBe("2026-11-21 08:30:00 -03:30");
});
