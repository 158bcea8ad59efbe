/**
 * About 3.5 GB on the server's disk with its indexes, of the kinds that applications keep: conversations as text, events as
 * JSON, accounts as short rows, sessions with random tokens, documents. Deterministic: the same rows at every run.
 */
export const bigDatabase = (scale: number): string => `
  CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY, chat int NOT NULL, author int NOT NULL, body text NOT NULL,
    created timestamptz NOT NULL);
  INSERT INTO messages (chat, author, body, created)
    SELECT g % 20011, g % 4001, (SELECT string_agg(w, ' ') FROM (SELECT words[1 + (hashint4(g * 31 + n) & 255)] AS w
      FROM generate_series(1, 40) n) s), timestamptz '2026-01-01Z' + g * interval '1 second'
    FROM generate_series(1, ${Math.round(2_600_000 * scale)}) g,
      (SELECT array_agg(left(md5(i::text), 3 + i % 7)) AS words FROM generate_series(1, 256) i) v;
  CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, kind text NOT NULL, payload jsonb NOT NULL);
  INSERT INTO events (at, kind, payload)
    SELECT timestamptz '2026-01-01Z' + g * interval '700 ms', 'kind-' || g % 23,
      jsonb_build_object('user', g % 100003, 'request', md5(g::text), 'ms', g % 911, 'tags', jsonb_build_array('a' || g % 7, 'b'))
    FROM generate_series(1, ${Math.round(2_400_000 * scale)}) g;
  CREATE TABLE accounts (id int NOT NULL, branch int NOT NULL, balance numeric NOT NULL, filler text NOT NULL);
  INSERT INTO accounts SELECT g, g % 1009, (g % 99991) / 7.0, repeat('x', 70) FROM generate_series(1, ${Math.round(4_000_000 * scale)}) g;
  CREATE TABLE sessions (token text NOT NULL, account int NOT NULL, agent text NOT NULL, seen timestamptz NOT NULL);
  INSERT INTO sessions SELECT md5(g::text) || md5((g * 7)::text), g % 4000000, 'Mozilla/5.0 (X11; Linux x86_64) build/' || g % 97,
      timestamptz '2026-01-01Z' + g * interval '1 second'
    FROM generate_series(1, ${Math.round(2_500_000 * scale)}) g;
  ALTER TABLE messages ADD PRIMARY KEY (id);
  CREATE INDEX ON messages (chat, created);
  ALTER TABLE events ADD PRIMARY KEY (id);
  CREATE INDEX ON events (at);
  CREATE INDEX ON events (kind, id);
  ALTER TABLE accounts ADD PRIMARY KEY (id);
  CREATE INDEX ON accounts (branch);
  ALTER TABLE sessions ADD PRIMARY KEY (token);
  CREATE INDEX ON sessions (account);
  VACUUM ANALYZE;
`;

/** One of many small databases: an application's few tables. */
export const smallDatabase = `
  CREATE TABLE users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text UNIQUE);
  CREATE TABLE workflows (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner int REFERENCES users, definition jsonb);
  INSERT INTO users (name, email) SELECT 'user ' || g, g || '@example.org' FROM generate_series(1, 200) g;
  INSERT INTO workflows (owner, definition) SELECT 1 + g % 200, jsonb_build_object('nodes', g) FROM generate_series(1, 100) g;
`;
