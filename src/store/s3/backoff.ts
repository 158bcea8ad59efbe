import type { S3ClientConfig } from "@aws-sdk/client-s3";
import type { Clock } from "../../lib/time.ts";

type Strategy = Exclude<Exclude<S3ClientConfig["retryStrategy"], undefined>, { retry: unknown }>;

/**
 * How the client repeats requests: the one layer that does so for S3 (a body cut on its way is `retryStore`'s). Full
 * jitter up to 200 ms, doubling to 20 s. A server that says nothing is asked three times, as each takes a whole timeout.
 */
export function backoff(attempts: number, clock: Clock): Strategy {
  const token = (count: number, delayMs: number) => ({
    getRetryCount: () => count,
    getRetryDelay: () => delayMs,
    getRetryCost: () => undefined,
  });
  return {
    acquireInitialRetryToken: async () => token(0, 0),
    async refreshRetryTokenForRetry(last, { errorType, error }) {
      const count = last.getRetryCount() + 1;
      const { name, $metadata } = (error ?? {}) as { name?: string; $metadata?: Metadata };
      const silent = name === "TimeoutError";
      const most = silent ? Math.min(attempts, 3) : attempts;
      // 501: the server does not know such a request, and will not learn it.
      const final = errorType === "CLIENT_ERROR" || $metadata?.httpStatusCode === 501 || isAnswer(name, $metadata);
      if (final || count >= most) throw new Error("not to be repeated");
      const baseMs = errorType === "THROTTLING" ? 1_000 : 200;
      return token(count, Math.floor(clock.random() * Math.min(20_000, baseMs * 2 ** (count - 1))));
    },
    recordSuccess: () => undefined,
  };
}

interface Metadata {
  httpStatusCode?: number;
  clockSkewCorrected?: boolean;
}

/**
 * Once the client has corrected its clock by the server's, it takes every error for one of a wrong clock, which passes:
 * each "not there" would be asked for six times. 401 and 403 may be of the clock, 408 and 429 pass.
 */
function isAnswer(
  name: string | undefined,
  { httpStatusCode = 0, clockSkewCorrected = false }: Metadata = {},
): boolean {
  if (!clockSkewCorrected || httpStatusCode < 400 || httpStatusCode >= 500) return false;
  return ![401, 403, 408, 429].includes(httpStatusCode) && !/Skewed|Expired|Timeout/.test(name ?? "");
}
