import { setTimeout as delay } from "node:timers/promises";

/** Repeats `attempt` until it no longer throws; fails with its last error when that takes longer than `withinMs`. */
export async function eventually<T>(attempt: () => T | Promise<T>, withinMs = 30_000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await delay(20);
  }
}
