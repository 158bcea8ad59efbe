#!/usr/bin/env node
import * as nodeModule from "node:module";

if (Number.parseInt(process.versions.node, 10) < 24) {
  console.error(
    `pgkit: this is Node ${process.versions.node}, and pgkit needs 24 or newer\nhint: which node is first in the PATH?`,
  );
  process.exitCode = 2;
} else {
  nodeModule.enableCompileCache();
  const { main } = await import("../dist/pgkit.js");
  process.exitCode = await main(process.argv, process.env);
}
