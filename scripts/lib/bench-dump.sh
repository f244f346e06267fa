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
  # mydumper reads how many rows there are from EXPLAIN in its old format, and makes one chunk of all without it.
  sql primary -e "SET GLOBAL explain_format = 'TRADITIONAL'" 2>/dev/null || true
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

# The binlog on, as it has to be where a region has replicas. By --regex: with --tables-list mydumper 0.10 never ends.
way_mydumper() {
  local began=${EPOCHREALTIME/./} chunk=$((dump_rows / 32 + 1))
  rm -rf "$work/mydumper"
  "$here/mysql" extra mydumper mydumper --host 127.0.0.1 --port "$(port primary)" --user root --threads 4 \
    --rows "$chunk" ${1:+$1} --trx-consistency-only --regex '^g\.t1$' --outputdir "$work/mydumper" >"$work/output" 2>&1 ||
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
    store=s3://$s3_bucket/bench$$-$uploads
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
tables = ["${1:-g.t1}"]
[apply]
workers = 4
guard = "off"
TOML
  "$binary" --config "$work/source.toml" stream init --table "${1:-g.t1}" >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "stream init failed"; }
}

way_tablecast() {
  dump_stream
  local name=$1 began=${EPOCHREALTIME/./} between
  timed '— its `dump take`' "$binary" --quiet --json --config "$work/source.toml" dump take --all-tables
  cp "$work/output" "$work/dump.json"
  between=${EPOCHREALTIME/./}
  timed '— its `bootstrap`' "$binary" --quiet --config "$work/region.toml" bootstrap
  result "$name" $((${EPOCHREALTIME/./} - began))
  note "  of which dump $(((between - began) / 1000)) ms; pause $(pause) ms"
}

# Of the last dump, in milliseconds.
pause() { awk -v us="$(json pause_us "$work/dump.json")" 'BEGIN { printf "%.1f", us / 1000 }'; }

json() { sed -nE "s/.*\"$1\": ?\"?([0-9.]+).*/\1/p" "$2" | head -n 1; }

# --- the stream goes on ------------------------------------------------------------------------------------------

sysbench() {
  "$here/mysql" extra sysbench sysbench oltp_write_only --mysql-host=127.0.0.1 --mysql-port="$(port primary)" \
    --mysql-user=root --mysql-db=g --tables=4 --table-size=10000 "$@"
}

# The time, every 50 ms, in a table of the set, and a change to the one that is dumped.
heartbeat() {
  while sleep 0.05; do
    echo "UPDATE g.beat SET t = NOW(6); UPDATE g.t1 SET k = k + 1 WHERE id = $(((RANDOM * 32768 + RANDOM) % dump_rows + 1));" ||
      return 0
  done |
    "$here/mysql" client "$servers"-primary g
}

# How far behind it is in the region, in milliseconds, every 50 ms.
watch_lag() {
  while sleep 0.05; do echo "SELECT TIMESTAMPDIFF(MICROSECOND, t, NOW(6)) DIV 1000 FROM g.beat;" || return 0; done |
    "$here/mysql" client "$servers"-region g --batch --skip-column-names --unbuffered >"$1"
}

# lag_row NAME FILE: count, median, 99th percentile and maximum.
lag_row() {
  sort -n "$2" | awk -v name="$1" '{ at[NR] = $1 }
    END { printf "| %s | %d | %d | %d | %d |\n", name, NR, at[int((NR + 1) / 2)], at[int(NR * 0.99)], at[NR] }'
}

# end PID...: these and what they have started.
end() {
  local pid
  for pid; do
    # shellcheck disable=SC2046
    end $(cat /proc/"$pid"/task/*/children 2>/dev/null)
    kill "$pid" 2>/dev/null || true
  done
}

# A dump and a restore of the large table while sysbench writes to four others of the set and to itself.
bench_dump_under_writes() {
  local began pids=() phase
  sql primary -e 'CREATE TABLE g.beat (id INT PRIMARY KEY, t DATETIME(6) NOT NULL); INSERT INTO g.beat VALUES (1, NOW(6))'
  sysbench prepare >"$work/output" 2>&1 || { cat "$work/output" >&2; die "sysbench prepare failed"; }
  empty_region
  dump_stream 'g.*'
  printf '[upload]\ninterval = "100ms"\n' >>"$work/source.toml"
  "$binary" --quiet --config "$work/source.toml" dump take --all-tables >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "dump take failed"; }
  "$binary" --quiet --config "$work/region.toml" bootstrap >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "bootstrap failed"; }
  "$binary" --quiet --config "$work/source.toml" upload --follow >"$work/upload.log" 2>&1 & pids+=($!)
  "$binary" --quiet --config "$work/region.toml" apply --follow >"$work/apply.log" 2>&1 & pids+=($!)
  sysbench --time=0 --threads=2 --rate=100 run >"$work/sysbench.log" 2>&1 & pids+=($!)
  heartbeat & pids+=($!)
  sleep 5
  for phase in without with; do
    watch_lag "$work/lag-$phase" & pids+=($!)
    began=$(date -u +%FT%TZ)
    if [ $phase = without ]; then
      sleep 30
    else
      "$binary" --quiet --json --config "$work/source.toml" dump take g.t1 >"$work/dump.json" || die "dump take failed"
      note "dumped; restoring it beside the stream"
      "$binary" --quiet --config "$work/region.toml" restore g.t1 >"$work/output" 2>&1 ||
        { cat "$work/output" "$work/apply.log" >&2; die "restore failed"; }
    fi
    end "${pids[-1]}"
    unset 'pids[-1]'
  done
  end "${pids[@]}"
  wait "${pids[@]}" 2>/dev/null || true
  "$binary" --quiet --config "$work/source.toml" upload >"$work/output" 2>&1 || die "upload failed"
  "$binary" --quiet --config "$work/region.toml" apply >"$work/output" 2>&1 || die "apply failed"
  tables='g.t1, g.beat, g.sbtest1, g.sbtest2, g.sbtest3, g.sbtest4'
  check_equal
  printf '\n### A dump beside the stream\n\n'
  printf '%s rows dumped and restored while sysbench commits 100 transactions a second on four other tables of the\n' "$dump_rows"
  printf 'set and 20 a second change the dumped one.\n'
  printf 'The pause in which nothing could be committed to the table: %s ms. ' "$(pause)"
  printf 'Tables equal at the end.\n\n'
  printf '| how far a healthy table of the region is behind, in ms | readings | median | 99 %% | most |\n|---|---:|---:|---:|---:|\n'
  lag_row 'without a dump' "$work/lag-without"
  lag_row 'while it is taken and restored' "$work/lag-with"
}
