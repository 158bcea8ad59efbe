import { langflow } from "./langflow.ts";
import { litellm } from "./litellm.ts";
import { n8n } from "./n8n.ts";

/** A database of the demo, as one application of a shared instance has it. */
export interface DemoApplication {
  database: string;
  owner: string;
  /** Made up, for a server that nobody else can reach and that is gone in a minute. */
  password: string;
  /** Run by the owner: tables as the application makes them, and rows that look like its own. */
  sql: readonly string[];
}

export const applications: readonly DemoApplication[] = [langflow, n8n, litellm];
