/** What BASE_BACKUP's stream brings: the begin of an archive, or bytes of the one that began last. */
export type ArchiveEvent = { type: "archive"; name: string } | { type: "data"; bytes: Buffer };

export interface ArchiveQueue {
  push(event: ArchiveEvent): void;
  /** The next event, waited for; `undefined` when all has come. Fails when `fail` was told so. */
  next(): Promise<ArchiveEvent | undefined>;
  /** Puts one back, to be the next. */
  unread(event: ArchiveEvent): void;
  end(): void;
  fail(error: unknown): void;
  /** Forgets all that has come and will come. */
  drop(): void;
}

/** The flow of a connection, which a full queue stops. */
export interface Flow {
  pause(): void;
  resume(): void;
}

/** Stops the flow while `mostBytes` or more wait, and lets it go on when half of them are taken. */
export function archiveQueue(flow: Flow, mostBytes: number): ArchiveQueue {
  const waiting: ArchiveEvent[] = [];
  let bytes = 0;
  let paused = false;
  let dropped = false;
  let outcome: { error?: unknown } | undefined;
  let wake: (() => void) | undefined;
  const count = (event: ArchiveEvent, sign: 1 | -1) => {
    if (event.type === "data") bytes += sign * event.bytes.length;
    if (paused ? bytes >= mostBytes / 2 : bytes < mostBytes) return;
    paused = !paused;
    if (paused) flow.pause();
    else flow.resume();
  };
  const settle = (end: { error?: unknown }) => {
    outcome ??= end;
    wake?.();
  };
  const taken = (): ArchiveEvent | undefined => {
    const event = waiting.shift();
    if (event !== undefined) count(event, -1);
    return event;
  };
  return {
    push: (event) => {
      if (dropped) return;
      waiting.push(event);
      count(event, 1);
      wake?.();
    },
    next: async () => {
      for (;;) {
        const event = taken();
        if (event !== undefined) return event;
        if (outcome !== undefined && "error" in outcome) throw outcome.error;
        if (outcome !== undefined) return undefined;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    unread: (event) => {
      waiting.unshift(event);
      count(event, 1);
    },
    end: () => settle({}),
    fail: (error) => settle({ error }),
    drop: () => {
      dropped = true;
      waiting.length = 0;
      if (paused) flow.resume();
    },
  };
}
