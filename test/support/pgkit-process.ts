import { main } from "../../src/main.ts";

/** The command line in a process of its own, for tests that kill it. */
process.exitCode = await main(process.argv, process.env);
