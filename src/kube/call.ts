import { isPgkitError, type PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Access } from "./access.ts";
import { type Ask, apiError, refusalOf, statusOf } from "./errors.ts";
import { type Answer, mayPass, networkError, send, textOf } from "./http.ts";

export interface KubeDeps {
  readonly clock: Clock;
  readonly report: Report;
  /** How long an API that has answered before is waited for: an API server is away for a minute when it is upgraded. */
  readonly patienceMs?: number | undefined;
}

/** Sends calls, and repeats those that may go better. */
export interface Caller {
  access(): Access;
  /**
   * The answer of 2xx, read whole as JSON. Where a call was repeated, an earlier one may have been carried out and its answer
   * lost: `settle` may then know what the error means, and gives the answer; it throws the error where it does not.
   */
  json(ask: Ask, signal: AbortSignal, settle?: (error: unknown) => Promise<unknown>): Promise<unknown>;
  /** The answer of 2xx as a stream that may stay silent for so long. */
  open(ask: Ask, silentMs: number, signal: AbortSignal): Promise<Answer>;
  patience(signal: AbortSignal): Patience;
}

/** Waits before what failed is tried again; throws the error where that is no use, or no patience is left. */
export interface Patience {
  after(error: unknown): Promise<void>;
  /** Something came of it: the patience begins anew. */
  progressed(): void;
}

const answerWithinMs = 30_000;
const firstPatienceMs = 10_000;
const usualPatienceMs = 90_000;
const longestWaitMs = 8_000;

export function callerOf(access: Access, deps: KubeDeps): Caller {
  const state = { access, hasAnswered: false };
  const patience = (signal: AbortSignal) => patienceOf(deps, state, signal);
  return {
    access: () => state.access,
    patience,
    open: (ask, silentMs, signal) => repeat(patience(signal), () => attempt(state, ask, silentMs, signal)),
    json: async (ask, signal, settle) => {
      return await repeat(patience(signal), async (nth) => {
        try {
          const answer = await attempt(state, ask, answerWithinMs, signal);
          return parse(state.access, ask, answer, await textOf(state.access, ask, answer, signal));
        } catch (error) {
          if (nth === 1 || settle === undefined) throw error;
          return await settle(error);
        }
      });
    },
  };
}

interface State {
  access: Access;
  hasAnswered: boolean;
}

/** One call; with the credentials read again where the API does not take those there are. */
async function attempt(state: State, ask: Ask, silentMs: number, signal: AbortSignal, isLast = false): Promise<Answer> {
  const answer = await send(state.access, ask, silentMs, signal);
  if (answer.code >= 200 && answer.code < 300) {
    state.hasAnswered = true;
    return answer;
  }
  const body = await textOf(state.access, ask, answer, signal);
  if (answer.code === 401 && !isLast) {
    state.access = await state.access.renewed();
    return await attempt(state, ask, silentMs, signal, true);
  }
  // An answer that is no Status comes from something in front of the API.
  state.hasAnswered ||= statusOf(body) !== undefined;
  throw apiError(ask, answer.code, body, answer.retryAfterMs);
}

function parse(access: Access, ask: Ask, { body: { complete }, code }: Answer, body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    throw complete ? apiError(ask, code, body) : networkError(access, ask, cause);
  }
}

async function repeat<T>(patience: Patience, work: (nth: number) => Promise<T>): Promise<T> {
  for (let nth = 1; ; nth += 1) {
    try {
      return await work(nth);
    } catch (error) {
      await patience.after(error);
    }
  }
}

/** Full jitter between nothing and a doubling bound, but no sooner than the API asks for by Retry-After. */
function patienceOf({ clock, report, patienceMs }: KubeDeps, state: State, signal: AbortSignal): Patience {
  let failures = 0;
  let beganMs = clock.monotonicMs();
  return {
    progressed() {
      failures = 0;
      beganMs = clock.monotonicMs();
    },
    async after(error) {
      signal.throwIfAborted();
      if (!isPassing(error)) throw error;
      if (failures === 0) beganMs = clock.monotonicMs();
      failures += 1;
      const drawnMs = clock.random() * Math.min(longestWaitMs, 250 * 2 ** failures);
      const waitMs = Math.max(drawnMs, refusalOf(error)?.retryAfterMs ?? 0);
      const wholeMs = patienceMs ?? (state.hasAnswered ? usualPatienceMs : firstPatienceMs);
      if (clock.monotonicMs() - beganMs + waitMs > wholeMs) throw error;
      if (failures === 3) {
        const message = `${error.message}; trying on for ${Math.ceil(wholeMs / 1000)} s`;
        report({ type: "warning", message, hint: error.hint });
      }
      await clock.delay(waitMs, signal);
    },
  };
}

/** True for what may go better by itself. */
function isPassing(error: unknown): error is PgkitError {
  if (isPgkitError(error, "kube-unreachable")) return mayPass(error);
  const { code = 0 } = refusalOf(error) ?? {};
  return code === 429 || code === 500 || (code >= 502 && code <= 504);
}
