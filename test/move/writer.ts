import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";

/** An application that writes all the time, and knows what the server has acknowledged. */
export interface Writer {
  /** What its rows have in `writer`. */
  readonly name: string;
  /** The numbers whose commit was acknowledged, in order. */
  readonly acknowledged: number[];
  /** Errors that the application saw, in order. */
  readonly errors: string[];
  /** The longest time between two acknowledged commits so far, in milliseconds. */
  longestGapMs(): number;
  /** Begins to measure the longest gap anew. */
  resetGap(): void;
  /** Resolves when this many more commits are acknowledged from now on. */
  more(commits: number, withinMs?: number): Promise<void>;
  /** Ends the loop after the transaction under way. */
  stop(): Promise<void>;
}

export interface WriterOptions {
  /** Where to connect, asked at every connect: as an application that reads its DATABASE_URL when it starts. */
  url: () => string;
  name?: string;
  /** Milliseconds between two transactions. */
  pauseMs?: number;
}

/**
 * Inserts numbered rows into `ledger`, one a transaction, and connects again after an error. A number whose COMMIT was not
 * answered may be there or not: it is never used again, so that nothing is written twice on purpose.
 */
export function startWriter({ url, name = "writer", pauseMs = 2 }: WriterOptions): Writer {
  const state = { next: 1, running: true, lastMs: performance.now(), gapMs: 0 };
  const acknowledged: number[] = [];
  const errors: string[] = [];
  const write = async (client: pg.Client) => {
    while (state.running) {
      const n = state.next;
      state.next += 1;
      await client.query("BEGIN");
      await client.query("INSERT INTO public.ledger (writer, n) VALUES ($1, $2)", [name, n]);
      await client.query("COMMIT");
      const now = performance.now();
      state.gapMs = Math.max(state.gapMs, now - state.lastMs);
      state.lastMs = now;
      acknowledged.push(n);
      await delay(pauseMs);
    }
  };
  const loop = async () => {
    while (state.running) {
      const client = new pg.Client({ connectionString: url(), application_name: name });
      client.on("error", () => undefined);
      try {
        await client.connect();
        await write(client);
      } catch (error) {
        errors.push(error instanceof Error ? error.message : String(error));
        await delay(2);
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  };
  const running = loop();
  return {
    ...{ name, acknowledged, errors },
    longestGapMs: () => Math.max(state.gapMs, performance.now() - state.lastMs),
    resetGap: () => {
      state.gapMs = 0;
    },
    more: async (commits, withinMs = 30_000) => {
      const [goal, deadline] = [acknowledged.length + commits, performance.now() + withinMs];
      while (acknowledged.length < goal) {
        if (performance.now() > deadline) throw new Error(`no ${commits} more commits: ${errors.slice(-3)}`);
        await delay(5);
      }
    },
    stop: async () => {
      state.running = false;
      await running;
    },
  };
}
