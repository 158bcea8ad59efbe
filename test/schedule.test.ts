import { expect, test } from "vitest";
import { cronProblem, type FinishedRun, type Schedule, scheduleStatus } from "../src/schedule.ts";

const hour = 3_600_000;
const nightly = (timeZone: string): Schedule => ({ cron: "30 2 * * *", timeZone, graceMs: hour });
const at = (text: string) => new Date(text);
const ran = (...starts: string[]): FinishedRun[] =>
  starts.map((start) => ({ startedAt: at(start), finishedAt: new Date(at(start).getTime() + 60_000) }));

test("the start at this very moment is the previous one", () => {
  const status = scheduleStatus(nightly("UTC"), [], at("2026-05-02T02:30:00Z"));
  expect(status.previous).toEqual(at("2026-05-02T02:30:00Z"));
  expect(status.next).toEqual(at("2026-05-03T02:30:00Z"));
});

test("a schedule follows the clocks of its time zone over a clock change", () => {
  const winter = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-03-27T12:00:00Z"));
  const summer = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-03-30T12:00:00Z"));
  expect(winter.previous).toEqual(at("2026-03-27T01:30:00Z"));
  expect(summer.previous).toEqual(at("2026-03-30T00:30:00Z"));
});

test("a start in the hour that spring skips happens once, an hour later by the clock", () => {
  const before = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-03-29T00:59:00Z"));
  const inside = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-03-29T01:10:00Z"));
  const later = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-03-29T05:00:00Z"));
  expect(before.next).toEqual(at("2026-03-29T01:30:00Z"));
  expect(inside.next).toEqual(at("2026-03-29T01:30:00Z"));
  expect(later.previous).toEqual(at("2026-03-29T01:30:00Z"));
  expect(later.next).toEqual(at("2026-03-30T00:30:00Z"));
});

test("a start in the hour that autumn repeats happens once, the first time", () => {
  const between = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-10-25T00:45:00Z"));
  const later = scheduleStatus(nightly("Europe/Berlin"), [], at("2026-10-25T05:00:00Z"));
  expect(between.next).toEqual(at("2026-10-26T01:30:00Z"));
  expect(later.previous).toEqual(at("2026-10-25T00:30:00Z"));
});

test("a run that answered the last start is not overdue", () => {
  const status = scheduleStatus(nightly("UTC"), ran("2026-05-02T02:30:01Z"), at("2026-05-02T20:00:00Z"));
  expect(status.overdueSince).toBeUndefined();
  expect(status.lastStartedAt).toEqual(at("2026-05-02T02:30:01Z"));
});

test("a missing run is overdue only after the grace time", () => {
  const yesterday = ran("2026-05-01T02:30:00Z");
  expect(scheduleStatus(nightly("UTC"), yesterday, at("2026-05-02T03:29:59Z")).overdueSince).toBeUndefined();
  expect(scheduleStatus(nightly("UTC"), yesterday, at("2026-05-02T03:30:00Z")).overdueSince).toEqual(
    at("2026-05-02T02:30:00Z"),
  );
});

test("what is overdue is counted from the first start that was missed", () => {
  const status = scheduleStatus(nightly("UTC"), ran("2026-04-28T02:30:00Z"), at("2026-05-02T12:00:00Z"));
  expect(status.overdueSince).toEqual(at("2026-04-29T02:30:00Z"));
});

test("an instance that was never backed up is overdue", () => {
  const status = scheduleStatus(nightly("UTC"), [], at("2026-05-02T12:00:00Z"));
  expect(status.overdueSince).toEqual(at("2026-05-02T02:30:00Z"));
});

test("a schedule more frequent than its grace time is overdue too", () => {
  const often = { cron: "*/15 * * * *", timeZone: "UTC", graceMs: hour };
  expect(scheduleStatus(often, ran("2026-05-02T11:00:00Z"), at("2026-05-02T12:00:00Z")).overdueSince).toBeUndefined();
  expect(scheduleStatus(often, ran("2026-05-02T10:59:00Z"), at("2026-05-02T12:00:00Z")).overdueSince).toEqual(
    at("2026-05-02T11:00:00Z"),
  );
});

test.each([
  ["0 25 * * *", /0-23/],
  ["0 2 * *", /five fields/],
  ["0 0 2 * * *", /five fields/],
  ["a b c d e", /cron/],
  ["0 0 31 2 *", /day of month/],
])("%s is refused", (cron, why) => {
  expect(cronProblem(cron)).toMatch(why);
});

test("ordinary lines are taken", () => {
  for (const cron of ["0 2 * * *", "30 1 * * 0", "*/5 * * * *", "@daily", "0 2 * * 1-5"]) {
    expect(cronProblem(cron)).toBeUndefined();
  }
});
