import { systemClock } from "../../src/lib/time.ts";
import { claimWorker } from "../../src/wal/worker-claim.ts";

/** Is the worker of a spool until it is killed. */
const claim = await claimWorker(process.argv[2] ?? "", "push", systemClock);
process.stdout.write(claim === undefined ? "no\n" : "yes\n");
setInterval(() => undefined, 1_000);
