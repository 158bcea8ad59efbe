import type { Writable } from "node:stream";
import type { MultiBar, SingleBar } from "cli-progress";
import { formatBytes, formatDuration } from "../lib/parse.ts";
import type { ProgressEvent, Report } from "../lib/report.ts";
import { oneLine } from "./text.ts";

/** `warnings`: nothing but warnings, as NDJSON; for --json, whose stderr a script may read. */
export type ProgressForm = "bar" | "plain" | "json" | "events" | "warnings" | "none";

export interface Progress {
  readonly report: Report;
  /** Leaves the terminal as it was found. Harmless when called again. */
  finish(): void;
}

export interface ProgressSink {
  readonly stderr: Writable;
  /** Writes one line, made harmless. */
  line(text: string): void;
  /** Takes secrets and control characters out. */
  scrub(text: string): string;
  event(event: ProgressEvent): void;
  monotonicMs(): number;
}

/** Draws the events of the use cases on stderr. */
export async function progressOf(form: ProgressForm, sink: ProgressSink): Promise<Progress> {
  if (form === "bar") return bars(sink);
  if (form === "plain") return { report: plainLines(sink), finish: () => undefined };
  if (form === "events") return { report: eventsNowAndThen(sink), finish: () => undefined };
  const wanted = (event: ProgressEvent) => form === "json" || (form === "warnings" && event.type === "warning");
  return { report: (event) => (wanted(event) ? sink.event(event) : undefined), finish: () => undefined };
}

/** How far a task is at most once a second: the log of a container is kept on its node's disk. */
function eventsNowAndThen(sink: ProgressSink): Report {
  const last = new Map<string, number>();
  return (event) => {
    if (event.type === "progress") {
      const nowMs = sink.monotonicMs();
      if (nowMs - (last.get(event.task) ?? Number.NEGATIVE_INFINITY) < 1000) return;
      last.set(event.task, nowMs);
    } else if ("task" in event) last.delete(event.task);
    sink.event(event);
  };
}

/** At most one line a task in this time, so that the log of a long backup stays readable. */
const plainEveryMs = 10_000;

interface Task {
  readonly startedMs: number;
  totalBytes: number | undefined;
  lastLineMs: number;
}

function plainLines(sink: ProgressSink): Report {
  const tasks = new Map<string, Task>();
  return (event) => {
    if (event.type === "start") {
      const nowMs = sink.monotonicMs();
      tasks.set(event.task, { startedMs: nowMs, totalBytes: event.totalBytes, lastLineMs: nowMs });
      sink.line(
        `${oneLine(event.task)}: started${event.totalBytes === undefined ? "" : `, ${formatBytes(event.totalBytes)}`}`,
      );
    } else if (event.type === "progress") {
      const task = tasks.get(event.task);
      const nowMs = sink.monotonicMs();
      if (task === undefined || nowMs - task.lastLineMs < plainEveryMs) return;
      task.lastLineMs = nowMs;
      task.totalBytes = event.totalBytes ?? task.totalBytes;
      const phase = event.phase === undefined ? "" : `${event.phase}, `;
      sink.line(`${oneLine(event.task)}: ${phase}${howFar(event.bytes, task.totalBytes, nowMs - task.startedMs)}`);
    } else {
      if ("task" in event) tasks.delete(event.task);
      for (const line of sentences(event)) sink.line(line);
    }
  };
}

/** `1.2 GiB of 3.5 GiB (34%), 95.0 MiB/s, 24 s left`. */
function howFar(bytes: number, totalBytes: number | undefined, elapsedMs: number): string {
  const perSecond = elapsedMs > 0 ? bytes / (elapsedMs / 1000) : 0;
  const rate = `${formatBytes(Math.round(perSecond))}/s`;
  // Totals are estimates: what runs past its estimate has no percentage and no end in sight.
  if (totalBytes === undefined || totalBytes <= 0 || bytes > totalBytes) return `${formatBytes(bytes)}, ${rate}`;
  const left = perSecond > 0 ? `, ${formatDuration(((totalBytes - bytes) / perSecond) * 1000)} left` : "";
  const percent = Math.floor((bytes / totalBytes) * 100);
  return `${formatBytes(bytes)} of ${formatBytes(totalBytes)} (${percent}%), ${rate}${left}`;
}

function sentences(event: Exclude<ProgressEvent, { type: "start" | "progress" }>): string[] {
  if (event.type === "note") return [event.message];
  if (event.type === "warning") return [`warning: ${event.message}`, ...hintLine(event.hint)];
  if (event.type === "failed") return [`${oneLine(event.task)}: failed: ${event.message}`, ...hintLine(event.hint)];
  const what = event.summary ?? (event.bytes === undefined ? "done" : `done, ${formatBytes(event.bytes)}`);
  return [`${oneLine(event.task)}: ${what} in ${formatDuration(event.seconds * 1000)}`];
}

function hintLine(hint: string | undefined): string[] {
  return hint === undefined ? [] : [`hint: ${hint}`];
}

async function bars(sink: ProgressSink): Promise<Progress> {
  const { default: cliProgress } = await import("cli-progress");
  const running = new Map<string, { bar: SingleBar; task: Task }>();
  let multibar: MultiBar | undefined;
  const start = (name: string, totalBytes: number | undefined) => {
    multibar ??= new cliProgress.MultiBar(barOptions(sink));
    const task = { startedMs: sink.monotonicMs(), totalBytes, lastLineMs: 0 };
    const bar = multibar.create(totalBytes ?? 0, 0, { task: sink.scrub(oneLine(name)), how: "" });
    running.set(name, { bar, task });
  };
  const say = (line: string) => {
    if (multibar === undefined || running.size === 0) sink.line(line);
    // The bars' library wipes only the first of several lines that it writes over bars.
    else multibar.log(`${sink.scrub(line)}\x1b[0K\n`);
  };
  const finish = () => {
    multibar?.stop();
    multibar = undefined;
    running.clear();
  };
  const report = (event: ProgressEvent) => {
    if (event.type === "start") return start(event.task, event.totalBytes);
    if (event.type === "progress") return advance(running.get(event.task), event, sink);
    for (const line of sentences(event)) say(line);
    const found = "task" in event ? running.get(event.task) : undefined;
    if (!("task" in event) || found === undefined) return;
    multibar?.remove(found.bar);
    running.delete(event.task);
    if (running.size === 0) finish();
  };
  return { report, finish };
}

function barOptions(sink: ProgressSink) {
  return {
    stream: sink.stderr as NodeJS.WritableStream,
    format: "{task} {bar} {how}",
    barsize: 24,
    hideCursor: false,
    clearOnComplete: true,
    stopOnComplete: false,
    gracefulExit: false,
    emptyOnZero: true,
    noTTYOutput: false,
    fps: 8,
  };
}

function advance(
  found: { bar: SingleBar; task: Task } | undefined,
  event: Extract<ProgressEvent, { type: "progress" }>,
  sink: ProgressSink,
): void {
  if (found === undefined) return;
  const { bar, task } = found;
  if (event.totalBytes !== undefined && event.totalBytes !== task.totalBytes) {
    task.totalBytes = event.totalBytes;
    bar.setTotal(event.totalBytes);
  }
  const phase = event.phase === undefined ? "" : `${sink.scrub(oneLine(event.phase))}, `;
  const how = phase + howFar(event.bytes, task.totalBytes, sink.monotonicMs() - task.startedMs);
  bar.update(Math.min(event.bytes, task.totalBytes ?? 0), { how });
}
