import type { DemoApplication } from "./applications.ts";

/** Keys, and a line in the spend log for each request: by far the biggest table, and the one that the demo drops. */
export const litellm: DemoApplication = {
  database: "litellm",
  owner: "litellm_user",
  password: "demo-litellm",
  sql: [
    `CREATE TABLE "LiteLLM_TeamTable" (
       team_id text PRIMARY KEY, team_alias text, max_budget double precision, spend double precision NOT NULL DEFAULT 0, models text[]);
     INSERT INTO "LiteLLM_TeamTable" SELECT 'team-' || i, 'Team ' || i, i * 100, i * 12.5, ARRAY['gpt-4o', 'claude-sonnet', 'mistral-large']
       FROM generate_series(1, 40) i`,
    `CREATE TABLE "LiteLLM_UserTable" (
       user_id text PRIMARY KEY, user_email text UNIQUE, team_id text REFERENCES "LiteLLM_TeamTable", spend double precision NOT NULL);
     INSERT INTO "LiteLLM_UserTable" SELECT 'user-' || i, 'person' || i || '@example.org', 'team-' || 1 + i % 40, i / 3.0
       FROM generate_series(1, 1500) i`,
    `CREATE TABLE "LiteLLM_VerificationToken" (
       token text PRIMARY KEY, key_name text, user_id text REFERENCES "LiteLLM_UserTable", expires timestamp(3), metadata jsonb NOT NULL DEFAULT '{}');
     INSERT INTO "LiteLLM_VerificationToken" SELECT encode(sha256(('key' || i)::bytea), 'hex'), 'sk-...' || right(md5(i::text), 4),
       'user-' || 1 + i % 1500, timestamp '2027-01-01' + i * interval '1 hour', jsonb_build_object('service', 'app-' || i % 20)
       FROM generate_series(1, 2500) i`,
    `CREATE TABLE "LiteLLM_SpendLogs" (
       request_id text PRIMARY KEY, call_type text NOT NULL, api_key text NOT NULL, spend double precision NOT NULL,
       total_tokens integer NOT NULL, "startTime" timestamp(3) NOT NULL, "endTime" timestamp(3) NOT NULL, model text NOT NULL,
       "user" text, metadata jsonb);
     INSERT INTO "LiteLLM_SpendLogs" SELECT 'chatcmpl-' || md5('request' || i), 'acompletion', encode(sha256(('key' || 1 + i % 2500)::bytea), 'hex'),
       (i % 1000) * 0.000013, 50 + i % 4000, timestamp '2026-09-01' + i * interval '20 seconds',
       timestamp '2026-09-01' + i * interval '20 seconds' + interval '1.7 seconds', (ARRAY['gpt-4o', 'claude-sonnet', 'mistral-large'])[1 + i % 3],
       'user-' || 1 + i % 1500, jsonb_build_object('status', CASE WHEN i % 53 = 0 THEN 'failure' ELSE 'success' END, 'cache', i % 5 = 0)
       FROM generate_series(1, 100000) i;
     CREATE INDEX ON "LiteLLM_SpendLogs" ("startTime");
     COMMENT ON TABLE "LiteLLM_SpendLogs" IS 'what each request cost'`,
  ],
};
