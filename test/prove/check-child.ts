import { pathToFileURL } from "node:url";
import { fileStore } from "../../src/store/file.ts";
import { checkedStore } from "./support.ts";

// What check-repository.test.ts runs as a process of its own, where a file system is mounted: node check-child.ts FOLDER
const [path = ""] = process.argv.slice(2);
const repository = { url: pathToFileURL(path).href };
const { findings, bugs, status } = await checkedStore(fileStore({ path }), repository, { scratchFolder: path });
console.log(JSON.stringify({ findings, bugs, status }));
