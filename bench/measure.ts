import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import type { RunAs } from "../src/postgres/run-as.ts";

/** One run of one contender. */
export interface Sample {
  seconds: number;
  /** Of the process itself, without its children, in bytes; 0 where it was gone too soon. */
  peakBytes: number;
}

export interface Contender {
  name: string;
  /** Undoes what the last run left; not measured. */
  reset: () => Promise<void>;
  run: () => Promise<Sample>;
}

/** Runs the contenders in turn, `rounds` times each, so that what the machine does meanwhile hits all of them. */
export async function interleave(contenders: readonly Contender[], rounds: number): Promise<Map<string, Sample[]>> {
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, reset, run } of round % 2 === 0 ? contenders : contenders.toReversed()) {
      await reset();
      const sample = await run();
      samples.get(name)?.push(sample);
      console.error(`  ${name}: ${sample.seconds.toFixed(2)} s`);
    }
  }
  return samples;
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export interface Command {
  file: string;
  args: readonly string[];
  env: Record<string, string>;
  runAs?: RunAs | undefined;
  cwd?: string;
}

export type Ran = Sample & { stdout: string; stderr: string };

/** Runs a program to its end; fails with its stderr when it does. */
export async function time({ file, args, env, runAs, cwd }: Command): Promise<Ran> {
  const started = performance.now();
  const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"], ...runAs, ...(cwd && { cwd }) });
  let [stdout, stderr, peakBytes] = ["", "", 0];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const sampler = setInterval(async () => {
    peakBytes = Math.max(peakBytes, await peakOf(child.pid ?? 0));
  }, 50);
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearInterval(sampler);
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}: ${stderr}`);
  return { seconds: (performance.now() - started) / 1000, peakBytes, stdout, stderr };
}

/** The kernel's own high-water mark; 0 for a process that has just ended. */
export async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** The processes whose command line holds all of these words. */
export async function processesWith(...words: string[]): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const line = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (words.every((word) => line.includes(word))) found.push(Number(name));
  }
  return found;
}

/** Of all processes with these words, whoever started them, while `work` runs. */
export async function watched<T>(words: string[], work: () => Promise<T>): Promise<{ value: T; peakBytes: number }> {
  let peakBytes = 0;
  const sampler = setInterval(async () => {
    for (const pid of await processesWith(...words)) peakBytes = Math.max(peakBytes, await peakOf(pid));
  }, 100);
  try {
    const value = await work();
    return { value, peakBytes };
  } finally {
    clearInterval(sampler);
  }
}
