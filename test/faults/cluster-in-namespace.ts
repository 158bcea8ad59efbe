import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { startCluster } from "../support/cluster.ts";

/** A process of its own, in a mount namespace of its own: a server, and a tablespace `small` on the tiny disk given. */
const cluster = await startCluster();
const folder = join(process.argv[2] ?? "", "tablespace");
await mkdir(folder);
if (cluster.runAs !== undefined) await chown(folder, cluster.runAs.uid, cluster.runAs.gid);
await cluster.psql(`CREATE TABLESPACE small LOCATION '${folder}'`);
process.stdout.write(`${cluster.url()}\n`);
process.stdin.resume().on("end", () => {
  cluster[Symbol.asyncDispose]().then(() => process.exit(0));
});
