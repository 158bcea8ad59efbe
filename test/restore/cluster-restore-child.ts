import { findPrograms } from "../../src/postgres/programs.ts";
import { readManifest } from "../../src/repo/backups.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { restore } from "./cluster-support.ts";

/** Restores in a process of its own, to be killed: REPOSITORY BACKUP[,BACKUP...] DATADIR OID=DIR. */
const [, , path = "", ids = "", dataDir = "", mapping = ""] = process.argv;
const repository = await repositoryIn(fileStore({ path }));
const chain = await Promise.all(ids.split(",").map((id) => readManifest(repository, { instance: "shared", id })));
const major = Number.parseInt(chain[0]?.server.version ?? "", 10);
const programs = (await findPrograms([])).find((each) => each.major === major);
const [oid, dir] = mapping.split("=");
process.stdout.write("begins\n");
await restore(repository, chain, dataDir, { tablespaces: new Map([[Number(oid), dir ?? ""]]), programs });
process.stdout.write("done\n");
