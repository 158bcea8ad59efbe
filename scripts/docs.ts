/** Writes docs/reference.md. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { commands } from "../src/cli/commands.ts";
import { referenceText } from "../src/cli/reference.ts";

await writeFile(join(import.meta.dirname, "..", "docs", "reference.md"), referenceText(commands));
