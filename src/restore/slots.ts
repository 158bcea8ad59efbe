/** Work that nobody waits for one by one, so much of it at a time; the first failure is kept until somebody looks. */
export interface Slots {
  /** Resolves when a slot is free; fails once a work has failed. */
  free(): Promise<void>;
  /** Starts `work` in a slot; what it gives never rejects. */
  run(work: () => Promise<unknown>): Promise<void>;
  /** Resolves when nothing is under way, whether or not some of it has failed. */
  ended(): Promise<void>;
  /** The same, and fails with the first failure. */
  idle(): Promise<void>;
}

export function slots(width: number): Slots {
  let underWay = 0;
  let failure: { error: unknown } | undefined;
  const waiting: (() => void)[] = [];
  const below = async (most: number) => {
    while (underWay >= most) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  const until = async (most: number) => {
    await below(most);
    if (failure !== undefined) throw failure.error;
  };
  return {
    free: () => until(width),
    run: async (work) => {
      underWay++;
      try {
        await work();
      } catch (error) {
        failure ??= { error };
      } finally {
        underWay--;
        for (const wake of waiting.splice(0)) wake();
      }
    },
    ended: () => below(1),
    idle: () => until(1),
  };
}
