/**
 * The part of RESTORE.md about a whole instance: base backups and WAL. Its blocks marked `bash` are one script, which
 * `test/stories/restore-base-by-hand.test.ts` takes out of a repository by the command given here, and runs.
 */
export function instanceGuide(): string {
  return [introduction, settings, getting, choosing, unpacking, combining, recovering].join("\n");
}

const introduction = `# Restore a whole instance without pgkit, to any moment

| key | holds |
| --- | --- |
| \`files/INSTANCE/BACKUP/\` of a base backup | \`base.tar.zst\`, the data directory; \`OID.tar.zst\`, a tablespace each; \`backup_manifest\`, the server's own list |
| \`wal/INSTANCE/SYSTEMID/TIMELINE/\` | WAL files under PostgreSQL's names, each \`.zst\`, with \`.age\` if it is encrypted |

You need bash, \`zstd\`, GNU \`tar\`, the server of the backup's major, \`age\` and the private key if the files end in \`.age\`, and
\`aws\` or \`az\` if this is no folder. Run it as the user that the server shall run as:

\`\`\`console
sed -n '/^\`\`\`bash$/,/^\`\`\`$/p' RESTORE.md | grep -v '^\`\`\`' > restore-instance.sh
bash -x restore-instance.sh
\`\`\`

It stops at the first error and makes a new data directory, ready to be started. After a failure: remove what it made, run it again.
`;

const settings = `## 1. Say what, from where and to where

\`\`\`bash
set -euo pipefail
umask 077
REPO=/backups                # a folder, s3://BUCKET/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX
ENDPOINT=                    # S3 that is not AWS: https://HOST:PORT
INSTANCE=shared              # a name in backups/
BACKUP=                      # one that ended before the moment: a name in backups/INSTANCE/ without .json; empty for the newest
TARGET_TIME=                 # such as 2026-11-21 02:00:00+00; empty for the end of the stored WAL
DATA_DIR=~/restored/data     # must not exist
SPACES=~/restored/spaces     # must not exist; tablespaces go below it, each under its oid
IDENTITY=~/age-identity.txt  # the private age key; not read where nothing is encrypted
WORK=~/pgkit-instance        # must not exist; what is in it stays until recovery has ended
BIN=/usr/lib/postgresql/17/bin # the server's programs
mkdir -p "$(dirname "$DATA_DIR")" "$(dirname "$WORK")" && mkdir "$WORK" "$DATA_DIR" && mkdir -p "$SPACES"
WORK=$(cd "$WORK" && pwd)
DATA_DIR=$(cd "$DATA_DIR" && pwd)
SPACES=$(cd "$SPACES" && pwd)
\`\`\`
`;

const getting = `## 2. One object, and the keys below a folder

\`\`\`bash
cat > "$WORK/store.sh" <<SETTINGS
REPO='$REPO' ENDPOINT='$ENDPOINT' IDENTITY='$IDENTITY' WORK='$WORK'
SETTINGS
cat >> "$WORK/store.sh" <<'STORE'
case $REPO in
  s3://*)
    rest=\${REPO#s3://}
    prefix=\${rest#"\${rest%%/*}"}
    prefix=\${prefix#/}
    one() { aws s3 cp \${ENDPOINT:+--endpoint-url "$ENDPOINT"} --only-show-errors "$REPO/$1" "$2"; }
    keys() { aws s3 ls \${ENDPOINT:+--endpoint-url "$ENDPOINT"} --recursive "$REPO/$1/" | awk '{ print $4 }' |
      sed "s#^\${prefix:+$prefix/}##"; } ;;
  azure://*)
    IFS=/ read -r _ _ ACCOUNT CONTAINER PREFIX <<<"$REPO"
    one() { az storage blob download --account-name "$ACCOUNT" --container-name "$CONTAINER" \\
      --name "\${PREFIX:+$PREFIX/}$1" --file "$2" --output none; }
    keys() { az storage blob list --account-name "$ACCOUNT" --container-name "$CONTAINER" --num-results '*' \\
      --prefix "\${PREFIX:+$PREFIX/}$1/" --query '[].name' --output tsv | sed "s#^\${PREFIX:+$PREFIX/}##"; } ;;
  *)
    one() { cp "$REPO/$1" "$2"; }
    keys() { (cd "$REPO" && find "$1" -type f); } ;;
esac
decoded() { case $1 in *.age) age -d -i "$IDENTITY" ;; *) cat ;; esac | zstd -dc; }
STORE
. "$WORK/store.sh"
\`\`\`
`;

const choosing = `## 3. The backup, and those it builds on

An incremental backup names its \`parent\`. A backup can be used for a \`TARGET_TIME\` after its \`stoppedAt\`.

\`\`\`bash
manifest() { [ -e "$WORK/$1.json" ] || one "backups/$INSTANCE/$1.json" "$WORK/$1.json"; }
field() { sed -n "s/^ *\\"$2\\": \\"\\([^\\"]*\\)\\".*/\\1/p" "$WORK/$1.json" | head -n 1; }
if [ -z "$BACKUP" ]; then
  BACKUP=$(keys "backups/$INSTANCE" | sed -n 's#.*/\\(base-[^/]*\\)\\.json$#\\1#p' | sort | tail -n 1)
fi
[ -n "$BACKUP" ] || { echo "there is no base backup of $INSTANCE in $REPO"; exit 1; }
CHAIN=
for link in $BACKUP; do
  while [ -n "$link" ]; do
    manifest "$link"
    CHAIN="$link $CHAIN"
    link=$(field "$link" parent)
  done
done
SYSTEM=$(field "$BACKUP" systemId)
\`\`\`
`;

const unpacking = `## 4. Fetch, check and unpack

A full backup goes where it shall be. Of a chain each link goes to a folder of its own.

\`\`\`bash
unpack() { # BACKUP, data directory, folder for tablespaces
  sed -n 's/^ *"key": "\\(.*\\)",$/\\1/p' "$WORK/$1.json" > "$WORK/keys"
  sed -n 's/^ *"sha256": "\\([0-9a-f]*\\)".*/\\1/p' "$WORK/$1.json" | paste -d '*' - "$WORK/keys" | sed 's/\\*/ */' > "$WORK/sums"
  while read -r key; do
    mkdir -p "$WORK/stored/$(dirname "$key")"
    one "$key" "$WORK/stored/$key"
  done < "$WORK/keys"
  (cd "$WORK/stored" && sha256sum --check --quiet "$WORK/sums")
  for key in $(grep -v '\\.volume[0-9]*$' "$WORK/keys"); do
    name=$(basename "$key")
    case $name in
      base.tar*) cat "$WORK/stored/$key"* | decoded "$name" | tar -x -C "$2" ;;
      [0-9]*.tar*)
        mkdir -p "$3/\${name%%.*}"
        cat "$WORK/stored/$key"* | decoded "$name" | tar -x -C "$3/\${name%%.*}" ;;
      backup_manifest*) cat "$WORK/stored/$key"* | decoded "$name" > "$2/backup_manifest" ;;
    esac
  done
  rm -rf "$WORK/stored" "$2/tablespace_map" # it would lead back to the old places
  for space in "$3"/*; do
    [ ! -d "$space" ] || ln -sfn "$space" "$2/pg_tblspc/\${space##*/}"
  done
  chmod 700 "$2"
  "$BIN/pg_verifybackup" --quiet --no-parse-wal --ignore=tablespace_map "$2"
}
case $CHAIN in
  *' '?*) number=0
    for link in $CHAIN; do
      number=$((number + 1))
      mkdir -p "$WORK/links/$number/data" "$WORK/links/$number/spaces"
      unpack "$link" "$WORK/links/$number/data" "$WORK/links/$number/spaces"
    done ;;
  *) unpack "$BACKUP" "$DATA_DIR" "$SPACES" ;;
esac
\`\`\`
`;

const combining = `## 5. Put a chain together

\`\`\`bash
if [ -e "$WORK/links" ]; then
  set --
  for space in "$WORK/links/$number/spaces"/*; do
    [ ! -d "$space" ] || set -- "$@" --tablespace-mapping "$space=$SPACES/\${space##*/}"
  done
  "$BIN/pg_combinebackup" "$@" --output "$DATA_DIR" $(seq -f "$WORK/links/%g/data" "$number")
fi
\`\`\`
`;

const recovering = `## 6. Say where WAL comes from, and where recovery ends

PostgreSQL takes exit status 1 of \`restore_command\` for the end of the WAL, so that it is given only for what is not in the list;
200 stops the server. A \`.partial\` is the part of a segment that was stored last; zeros follow it.

\`\`\`bash
keys "wal/$INSTANCE/$SYSTEM" > "$WORK/wal"
cat > "$WORK/fetch.sh" <<FETCH
set -o pipefail
. '$WORK/store.sh'
FETCH
cat >> "$WORK/fetch.sh" <<'FETCH'
key=$(grep -E "/$1(\\.partial)?\\.zst(\\.age)?$" "$WORK/wal" | sort | head -n 1)
[ -n "$key" ] || exit 1
one "$key" "$WORK/$1.stored" && decoded "$key" < "$WORK/$1.stored" > "$WORK/$1.wal" || exit 200
case $key in *.partial.*) truncate -s "$(cat "$WORK/segment")" "$WORK/$1.wal" || exit 200 ;; esac
rm "$WORK/$1.stored" && mv "$WORK/$1.wal" "$2" || exit 200
FETCH
sed -n 's/^ *"segmentBytes": \\([0-9]*\\).*/\\1/p' "$WORK/$BACKUP.json" > "$WORK/segment"
{
  echo "restore_command = 'bash \\"$WORK/fetch.sh\\" %f \\"%p\\"'"
  echo "archive_mode = off"
  [ -z "$TARGET_TIME" ] || echo "recovery_target_time = '$TARGET_TIME'"
  [ -z "$TARGET_TIME" ] || echo "recovery_target_action = promote"
} >> "$DATA_DIR/postgresql.auto.conf"
touch "$DATA_DIR/recovery.signal"
echo "now start it: $BIN/pg_ctl -D $DATA_DIR -w -t 86400 start"
\`\`\`

When it accepts connections, look at what is there, take the \`restore_command\` and \`archive_mode\` lines out of
\`postgresql.auto.conf\` again, and remove \`WORK\`: it holds the decoded backup's leftovers.
`;
