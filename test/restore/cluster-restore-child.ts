import { readManifest } from "../../src/repo/backups.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { restore } from "./cluster-support.ts";

/** Restores in a process of its own, to be killed: REPOSITORY BACKUP DATADIR OID=DIR. */
const [, , path = "", id = "", dataDir = "", mapping = ""] = process.argv;
const repository = await repositoryIn(fileStore({ path }));
const backup = await readManifest(repository, { instance: "shared", id });
const [oid, dir] = mapping.split("=");
process.stdout.write("begins\n");
await restore(repository, [backup], dataDir, { tablespaces: new Map([[Number(oid), dir ?? ""]]) });
process.stdout.write("done\n");
