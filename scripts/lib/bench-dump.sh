# shellcheck shell=bash
# Part of scripts/bench: a table from the primary to a region, whole: dump and restore, each way beside the others.

workload_dump() {
  title="$dump_rows rows of 200 bytes with a secondary index"
  note "writing: $title"
  mini_logs=()
  sql primary <<SQL
CREATE DATABASE g;
CREATE DATABASE p;
CREATE TABLE g.t1 (id INT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k));
SET SESSION cte_max_recursion_depth = 100000, foreign_key_checks = 0, unique_checks = 0;
CREATE TABLE p.seed (c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL);
INSERT INTO p.seed WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 100000)
  SELECT REPEAT(SHA2(n, 224), 2), SHA2(n + 1, 224) FROM s;
SQL
  local left=$dump_rows step
  while [ "$left" -gt 0 ]; do
    step=$((left < 100000 ? left : 100000))
    sql primary -e "INSERT INTO g.t1 (k, c, pad) SELECT FLOOR(RAND() * 1000000), c, pad FROM p.seed LIMIT $step"
    left=$((left - step))
  done
  sql primary -e 'ANALYZE TABLE g.t1' >/dev/null
  set_of_tables='g.t1' tables='g.t1' unit='rows' units=$dump_rows
  described="Source and region on this machine. $(($(sql primary -e "SELECT data_length + index_length FROM information_schema.tables
    WHERE table_schema = 'g' AND table_name = 't1'") >> 20)) MiB in InnoDB."
}

# A region without the table.
empty_region() {
  "$here/mysql" rm "$servers"-region >/dev/null 2>&1 || true
  "$here/mysql" start "$servers"-region --owner $$ -- "${server_options[@]}" >/dev/null
  sql region -e 'CREATE DATABASE g'
}

way_mysqldump() {
  local began=${EPOCHREALTIME/./}
  "$here/mysql" tool mysqldump --no-defaults --user=root --host=127.0.0.1 --port="$(port primary)" \
    --single-transaction --set-gtid-purged=OFF --no-tablespaces g t1 |
    "$here/mysql" client "$servers"-region g || die "mysqldump | mysql failed"
  result '`mysqldump \| mysql`' $((${EPOCHREALTIME/./} - began))
}

# Into compressed files, as Tablecast's are; the binlog on, as it has to be where a region has replicas.
way_mydumper() {
  local began=${EPOCHREALTIME/./} chunk=$((dump_rows / 32 + 1))
  rm -rf "$work/mydumper"
  "$here/mysql" extra mydumper mydumper --host 127.0.0.1 --port "$(port primary)" --user root --threads 4 \
    --rows "$chunk" ${1:+$1} --trx-consistency-only --tables-list g.t1 --outputdir "$work/mydumper" >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "mydumper failed"; }
  local between=${EPOCHREALTIME/./}
  "$here/mysql" extra mydumper myloader --host 127.0.0.1 --port "$(port region)" --user root --threads 4 \
    --enable-binlog --overwrite-tables --directory "$work/mydumper" >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "myloader failed"; }
  result "mydumper, myloader, 4 threads${1:+, compressed}" $((${EPOCHREALTIME/./} - began))
  note "  of which mydumper $(((between - began) / 1000)) ms"
}

# A stream that begins now, with its store; nothing has been shipped.
dump_stream() {
  uploads=$((uploads + 1))
  local s3=''
  if [ -n "${s3_endpoint:-}" ]; then
    store=s3://$s3_bucket/bench$uploads
    s3=$(printf '[s3]\nregion = "us-east-1"\nendpoint = "%s"\npath_style = true\n' "$s3_endpoint")
  else
    store=file://$work/bucket$uploads
    mkdir "$work/bucket$uploads"
  fi
  printf 'role = "source"\nstream = "bench%s"\nstore = "%s"\n%s\n%s\n' "$uploads" "$store" "$(mysql_section primary)" "$s3" \
    >"$work/source.toml"
  cat >"$work/region.toml" <<TOML
role = "region"
stream = "bench$uploads"
store = "$store"
$(mysql_section region)
$s3
[region]
name = "bench"
tables = ["g.t1"]
[apply]
workers = 4
guard = "off"
TOML
  "$binary" --config "$work/source.toml" stream init --table g.t1 >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "stream init failed"; }
}

way_tablecast() {
  dump_stream
  local name=$1 began=${EPOCHREALTIME/./} between
  timed "$name: dump take" "$binary" --quiet --json --config "$work/source.toml" dump take --all-tables
  cp "$work/output" "$work/dump.json"
  between=${EPOCHREALTIME/./}
  timed "$name: bootstrap" "$binary" --quiet --config "$work/region.toml" bootstrap
  result "$name" $((${EPOCHREALTIME/./} - began))
  note "  of which dump $(((between - began) / 1000)) ms; pause $(json pause_ms "$work/dump.json") ms"
}

json() { sed -nE "s/.*\"$1\": ?\"?([0-9.]+).*/\1/p" "$2" | head -n 1; }
