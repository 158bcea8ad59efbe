import { dirname } from "node:path";
import { startCluster } from "./cluster.ts";

/** A process of its own that starts a server, says where, and goes on until it is killed. */
const cluster = await startCluster();
const { pid, dataDir, socketDir } = cluster;
process.stdout.write(`${JSON.stringify({ pid, folder: dirname(dataDir), socketDir })}\n`);
setInterval(() => undefined, 1_000_000);
