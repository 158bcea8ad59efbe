import { orCancelled } from "./cancel.ts";

/**
 * An answer asked for once and then remembered. A failure is not: the next call asks again. The work is handed no
 * signal, since it is for all callers; each of them stops waiting by its own.
 */
export function once<T>(work: () => Promise<T>): (signal?: AbortSignal) => Promise<T> {
  let answer: Promise<T> | undefined;
  return async (signal) => {
    if (answer === undefined) {
      const asked = work();
      answer = asked;
      asked.catch(() => {
        if (answer === asked) answer = undefined;
      });
    }
    return await orCancelled(answer, signal);
  };
}
