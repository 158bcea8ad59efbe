import type { DemoApplication } from "./applications.ts";

/** Flows that people draw, and the messages that run through them. */
export const langflow: DemoApplication = {
  database: "langflow",
  owner: "langflow_user",
  password: "demo-langflow",
  sql: [
    `CREATE TABLE "user" (
       id uuid PRIMARY KEY, username text NOT NULL UNIQUE, password text NOT NULL, is_superuser boolean NOT NULL,
       create_at timestamptz NOT NULL, last_login_at timestamptz);
     INSERT INTO "user" SELECT md5('user' || i)::uuid, 'user' || i || '@example.org', '$2b$12$' || md5(i::text), i = 1,
       timestamptz '2026-01-05 08:00Z' + i * interval '5 hours', timestamptz '2026-11-01 08:00Z' + i * interval '7 minutes'
       FROM generate_series(1, 80) i`,
    `CREATE TABLE folder (
       id uuid PRIMARY KEY, name text NOT NULL, user_id uuid NOT NULL REFERENCES "user", UNIQUE (user_id, name));
     INSERT INTO folder SELECT md5('folder' || i)::uuid, 'Project ' || i, md5('user' || 1 + i % 80)::uuid
       FROM generate_series(1, 200) i`,
    `CREATE TABLE flow (
       id uuid PRIMARY KEY, name text NOT NULL, description text, data jsonb NOT NULL, updated_at timestamptz NOT NULL,
       folder_id uuid REFERENCES folder, user_id uuid NOT NULL REFERENCES "user");
     INSERT INTO flow SELECT md5('flow' || i)::uuid, (ARRAY['Support chat', 'Summarise tickets', 'Übersetzung', 'Invoice reader'])[1 + i % 4]
         || ' ' || i, 'Version ' || i % 9,
       jsonb_build_object('viewport', jsonb_build_object('x', i % 300, 'y', i % 200, 'zoom', 0.8), 'nodes',
         (SELECT jsonb_agg(jsonb_build_object('id', 'node-' || n, 'type', (ARRAY['ChatInput', 'Prompt', 'OpenAIModel', 'ChatOutput'])[1 + n % 4],
           'template', md5(i || 'x' || n))) FROM generate_series(1, 8) n)),
       timestamptz '2026-03-01 09:00Z' + i * interval '3 hours', md5('folder' || 1 + i % 200)::uuid, md5('user' || 1 + i % 80)::uuid
       FROM generate_series(1, 600) i`,
    `CREATE TABLE message (
       id uuid PRIMARY KEY, "timestamp" timestamptz NOT NULL, sender text NOT NULL, session_id text NOT NULL,
       text text NOT NULL, error boolean NOT NULL DEFAULT false, flow_id uuid REFERENCES flow);
     INSERT INTO message SELECT md5('message' || i)::uuid, timestamptz '2026-06-01 00:00Z' + i * interval '5 minutes',
       CASE WHEN i % 2 = 0 THEN 'Machine' ELSE 'User' END, 'session-' || i / 12,
       'Where is order ' || i % 9999 || '? ' || md5(i::text) || ' ' || md5((i * 7)::text), i % 97 = 0, md5('flow' || 1 + i % 600)::uuid
       FROM generate_series(1, 25000) i;
     CREATE INDEX ON message (session_id, "timestamp")`,
  ],
};
