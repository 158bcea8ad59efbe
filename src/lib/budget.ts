/** A budget of things that are few, such as a server's connections: `take` waits until as many are free. */
export interface Budget {
  readonly size: number;
  /** Runs `use` with `amount` of the budget (at most all of it) and gives it back, whatever happens. First come, first served. */
  spend<Result>(amount: number, use: () => Promise<Result>): Promise<Result>;
}

export function budget(size: number): Budget {
  let free = size;
  const waiting: { amount: number; go: () => void }[] = [];
  const admit = () => {
    for (let next = waiting[0]; next !== undefined && next.amount <= free; next = waiting[0]) {
      waiting.shift();
      free -= next.amount;
      next.go();
    }
  };
  return {
    size,
    spend: async (wanted, use) => {
      const amount = Math.min(wanted, size);
      await new Promise<void>((go) => {
        waiting.push({ amount, go });
        admit();
      });
      try {
        return await use();
      } finally {
        free += amount;
        admit();
      }
    },
  };
}
