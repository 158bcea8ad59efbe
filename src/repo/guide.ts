import { instanceGuide } from "./guide-instance.ts";

/**
 * The text of RESTORE.md: how to restore with standard programs alone. Its blocks marked `sh` are one script, which
 * `test/stories/restore-by-hand.test.ts` takes out of a repository by the command given here, and runs.
 */
export function restoreGuide(): string {
  return [
    introduction,
    settings,
    getting,
    finding,
    checking,
    decoding,
    loading,
    comparing,
    closing,
    instanceGuide(),
  ].join("\n");
}

const introduction = `# Restore a database without pgkit

This is a repository of pgkit. All in it are files of standard programs:

| key | holds |
| --- | --- |
| \`backups/INSTANCE/BACKUP.json\` | the manifest: what was backed up, when, its files with their sha256. A backup exists when this file does |
| \`files/INSTANCE/BACKUP/\` | its files: \`*.sql\` for psql, \`*.dump\` for pg_restore; \`.zst\` is zstd, \`.age\` is age, \`.volume0002\` continues the file before it |

You need bash, \`zstd\`, \`psql\` and \`pg_restore\` of the backup's PostgreSQL major or newer, \`age\` and the private key if the files
end in \`.age\`, and \`aws\` or \`az\` if this is no folder. Take the script out of this page, change its first lines, run it:

\`\`\`console
sed -n '/^\`\`\`sh$/,/^\`\`\`$/p' RESTORE.md | grep -v '^\`\`\`' > restore.sh
bash -x restore.sh
\`\`\`

It stops at the first error, shows each command as it runs, and changes nothing but what it creates: missing roles, and a
database that must not exist. After a failure: drop that database, empty \`WORK\`, run it again. What it does, step by step:
`;

const settings = `## 1. Say what, from where and to where

\`\`\`sh
set -euo pipefail
umask 077
REPO=/backups               # a folder, s3://BUCKET/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX
ENDPOINT=                   # S3 that is not AWS: https://HOST:PORT
INSTANCE=shared             # a name in backups/
DATABASE='litellm'          # what the database was called
NEW_NAME='litellm'          # what it shall be called; must not exist
BACKUP=                     # a name in backups/INSTANCE/ without .json; empty for the newest of the database
IDENTITY=~/age-identity.txt # the private age key; not read where nothing is encrypted
WORK=~/pgkit-restore        # an empty folder with room for the backup as stored and as decoded
JOBS=2                      # parallel jobs, about as many as the server has cores
export PGHOST=localhost PGPORT=5432 PGUSER=postgres # a superuser; the password in PGPASSWORD or ~/.pgpass
mkdir -p "$WORK/decoded"
WORK=$(cd "$WORK" && pwd)
\`\`\`
`;

const getting = `## 2. Get a folder of the repository

\`aws\` and \`az\` log in as they always do (profile, \`AWS_ACCESS_KEY_ID\`, \`az login\`, \`AZURE_STORAGE_KEY\`, ...). From a folder
nothing is copied.

\`\`\`sh
case $REPO in
  s3://*)
    COPY=$WORK/repository
    get() { aws s3 cp \${ENDPOINT:+--endpoint-url "$ENDPOINT"} --only-show-errors --recursive "$REPO/$1/" "$COPY/$1/"; } ;;
  azure://*)
    IFS=/ read -r _ _ ACCOUNT CONTAINER PREFIX <<<"$REPO"
    COPY=$WORK/repository/$PREFIX
    get() { az storage blob download-batch --account-name "$ACCOUNT" --source "$CONTAINER" \\
      --pattern "\${PREFIX:+$PREFIX/}$1/*" --destination "$WORK/repository" --output none; } ;;
  *)
    COPY=$REPO
    get() { test -d "$COPY/$1"; } ;;
esac
mkdir -p "$COPY"
cd "$COPY"
COPY=$PWD
\`\`\`

One object: \`aws s3 cp --endpoint-url URL s3://BUCKET/PREFIX/KEY FILE\`, or \`az storage blob download --account-name ACCOUNT
--container-name CONTAINER --name PREFIX/KEY --file FILE\`.
`;

const finding = `## 3. Find the newest backup

The names of one database's manifests sort by time; the database's exact name is inside, as JSON has it.

\`\`\`sh
if [ -z "$BACKUP" ]; then
  get "backups/$INSTANCE"
  name=\${DATABASE//\\\\/\\\\\\\\}
  name=\${name//\\"/\\\\\\"}
  BACKUP=$(grep -lF "\\"database\\": \\"$name\\"," "backups/$INSTANCE"/*.json | sort | tail -n 1 | xargs basename -s .json) ||
    { echo "there is no backup of $DATABASE in $REPO/backups/$INSTANCE"; exit 1; }
fi
MANIFEST=backups/$INSTANCE/$BACKUP.json
get "files/$INSTANCE/$BACKUP"
[ -e "$MANIFEST" ] || get "backups/$INSTANCE"
\`\`\`

With \`jq\` you see what there is to choose from, and which is the newest of a database:

\`\`\`console
jq -r '[.startedAt, .database, .id, .server.version, .storedBytes] | @tsv' backups/*/*.json | sort
jq -rs 'map(select(.database == "litellm")) | max_by(.startedAt).id' backups/shared/*.json
\`\`\`
`;

const checking = `## 4. Check every stored byte

The manifest has a \`key\` and a \`sha256\` for each object.

\`\`\`sh
sed -n 's/^ *"key": "\\(.*\\)",$/\\1/p' "$MANIFEST" > "$WORK/keys"
sed -n 's/^ *"sha256": "\\([0-9a-f]*\\)".*/\\1/p' "$MANIFEST" | paste -d '*' - "$WORK/keys" | sed 's/\\*/ */' > "$WORK/sums"
sha256sum --check --quiet "$WORK/sums"
\`\`\`
`;

const decoding = `## 5. Put volumes together, decrypt, decompress

\`\`\`sh
for file in $(grep -v '\\.volume[0-9]*$' "$WORK/keys"); do
  cat "$file"* |
    case $file in *.age) age -d -i "$IDENTITY" ;; *) cat ;; esac |
    case \${file%.age} in *.zst) zstd -dc ;; *) cat ;; esac > "$WORK/decoded/$(basename "\${file%.age}" .zst)"
done
\`\`\`
`;

const loading = `## 6. Create roles and database, load

Roles that exist stay as they are. A small database is one \`archive.dump\`; a big one is \`schema.dump\`, and \`data-*.dump\` which
load at the same time between the schema's two halves.

\`\`\`sh
cd "$WORK/decoded"
into=\${NEW_NAME//\\\\/\\\\\\\\}
into="dbname='\${into//\\'/\\\\\\'}'"
psql -X -q -v ON_ERROR_STOP=1 -d postgres -f roles.sql
psql -X -q -v ON_ERROR_STOP=1 -d postgres -v database="$NEW_NAME" -f database.sql
if [ -e archive.dump ]; then
  pg_restore --exit-on-error --jobs="$JOBS" -d "$into" archive.dump
else
  pg_restore --exit-on-error --section=pre-data -d "$into" schema.dump
  printf '%s\\0' data-*.dump | xargs -0 -n 1 -P "$JOBS" pg_restore --exit-on-error --section=data -d "$into"
  pg_restore --exit-on-error --section=post-data --jobs="$JOBS" -d "$into" schema.dump
fi
psql -X -q -v ON_ERROR_STOP=1 -d postgres -v database="$NEW_NAME" -f settings.sql
PGDATABASE=$NEW_NAME psql -X -q -v ON_ERROR_STOP=1 -c ANALYZE
\`\`\`
`;

const comparing = `## 7. Compare the row counts with the manifest

PostgreSQL reads the manifest itself, and counts each table whose rows the backup counted.

\`\`\`sh
export MANIFEST=$COPY/$MANIFEST
PGDATABASE=$NEW_NAME psql -X -q -At -v ON_ERROR_STOP=1 > "$WORK/different" <<'SQL'
\\set manifest \`cat "$MANIFEST"\`
SELECT format('SELECT %L, count(*), %s FROM ONLY %I.%I HAVING count(*) <> %s', schema || '.' || name, rows, schema, name, rows)
FROM json_to_recordset(:'manifest'::json #> '{logical,tables}') AS t (schema text, name text, rows bigint)
WHERE rows IS NOT NULL \\gexec
SQL
if [ -s "$WORK/different" ]; then
  echo "table, rows restored, rows in the backup:"
  cat "$WORK/different"
  exit 1
fi
echo "restored $DATABASE of $BACKUP as $NEW_NAME: every row count is as the backup recorded it"
\`\`\`
`;

const closing = `Now remove \`WORK\`: it holds the decrypted backup.
`;
