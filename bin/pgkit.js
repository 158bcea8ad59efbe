#!/usr/bin/env node
import { main } from "../dist/pgkit.js";

process.exitCode = await main(process.argv, process.env);
