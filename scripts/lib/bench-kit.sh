# shellcheck shell=bash
# Part of scripts/bench: servers, time and memory, tables of results.

note() { printf '%s\n' "$1" >&2; }

describe_machine() {
  local cpu memory
  cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  memory=$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
  printf 'Machine: %s cores (%s), %s GiB of memory. MySQL %s. %s. %s, load %s at the start.\n' \
    "$(nproc)" "${cpu:-$(uname -m)}" "$memory" "$mysql_version" "$("$binary" --version)" "$(date -u +%Y-%m-%d)" \
    "$(cut -d ' ' -f 1 /proc/loadavg)"
  printf 'Servers: sync_binlog=0, innodb_flush_log_at_trx_commit=2, buffer pool 512 MiB; binlog on, in regions too.\n'
  [ -z "${durable:-}" ] || printf 'Regions: sync_binlog=1, innodb_flush_log_at_trx_commit=1.\n'
}

sql() {
  local server=$1
  shift
  "$here/mysql" client "$servers-$server" --batch --skip-column-names "$@"
}

port() { "$here/mysql" show "$servers-$1" | sed -E 's/^port=([0-9]+) .*/\1/'; }

gtids() { sql "$1" -e "SELECT REPLACE(@@global.gtid_executed, '\n', '')"; }

# MySQL 8.4 renamed these.
new_names() { [ "$(printf '%s\n8.4\n' "$mysql_version" | sort -V | head -n 1)" = 8.4 ]; }
binlog_now() {
  if new_names; then sql primary -e 'SHOW BINARY LOG STATUS'; else sql primary -e 'SHOW MASTER STATUS'; fi | cut -f 1
}
forget_gtids() { if new_names; then echo 'RESET BINARY LOGS AND GTIDS'; else echo 'RESET MASTER'; fi; }

server_options=(--innodb-buffer-pool-size=512M --innodb-redo-log-capacity=1G --max-binlog-size=1G
  --max-allowed-packet=1G --replica-max-allowed-packet=1G --binlog-row-event-max-size=8192
  --log-bin-trust-function-creators=1)

start_primary() {
  "$here/mysql" rm "$servers"-primary >/dev/null 2>&1 || true
  "$here/mysql" start "$servers"-primary --owner $$ -- "${server_options[@]}" >/dev/null
}

# A region as it is before the first apply: the tables as they were when the stream began.
fresh_region() {
  "$here/mysql" rm "$servers"-region >/dev/null 2>&1 || true
  "$here/mysql" start "$servers"-region --owner $$ -- "${server_options[@]}" --replica-parallel-workers=4 \
    ${durable:+--sync-binlog=1 --innodb-flush-log-at-trx-commit=1} "$@" >/dev/null
  "$here/mysql" client "$servers"-region -e 'CREATE DATABASE g; CREATE DATABASE p'
  "$here/mysql" client "$servers"-region g <"$work/base.sql"
}

# What each region begins with, and where the stream begins.
copy_base() {
  base=$(gtids primary)
  "$here/mysql" tool mysqldump --no-defaults --user=root --host=127.0.0.1 --port="$(port primary)" \
    --single-transaction --set-gtid-purged=OFF g >"$work/base.sql"
  sql primary -e 'FLUSH BINARY LOGS'
  first_log=$(binlog_now)
}

end_workload() {
  sql primary -e 'FLUSH BINARY LOGS'
  local last folder
  last=$(binlog_now)
  folder=$("$here/mysql" show "$servers"-primary | sed -E 's/.*datadir=([^ ]+) .*/\1/')
  logs=()
  while read -r name _; do
    if [[ ! $name < $first_log && $name < $last ]]; then logs+=("$folder/$name"); fi
  done < <(sql primary -e 'SHOW BINARY LOGS')
  all=$(gtids primary)
  binlog_bytes=$(cat "${logs[@]}" | wc -c)
}

checksums() { sql "$1" -e "CHECKSUM TABLE $tables"; }

check_equal() {
  [ "$(checksums region)" = "$(checksums primary)" ] || die "the region's tables differ from the primary's"
}

# timed NAME COMMAND...: runs it, and notes its seconds and its own peak memory (the kernel's high-water mark, looked at
# 20 times a second until it ends; by this shell alone, for a process each time would cost what is measured).
timed() {
  local name=$1 began ended peak=0 pid status=0 never
  shift
  exec {never}<> <(:)
  began=${EPOCHREALTIME/./}
  "$@" >"$work/output" 2>&1 &
  pid=$!
  while high_water "$pid"; do
    read -r -t 0.05 -u "$never" || true
  done
  exec {never}<&-
  wait "$pid" || status=$?
  ended=${EPOCHREALTIME/./}
  if [ "$status" -ne 0 ]; then
    cat "$work/output" >&2
    die "$name ended with $status"
  fi
  result "$name" $((ended - began)) "$peak"
}

# high_water PID: into $peak; fails when it has ended.
high_water() {
  local name value
  while read -r name value _; do
    [ "$name" != VmHWM: ] || { peak=$value && return; }
  done 2>/dev/null <"/proc/$1/status"
  return 1
}

# What the machine under this one took of its time, in percent of both cores since $1 (as told by `machine_time`).
machine_time() { awk '/^cpu / { print $9, $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9 }' /proc/stat; }
taken_away() { awk -v now="$(machine_time)" -v then="$1" 'BEGIN { split(now, n); split(then, t); d = n[2] - t[2]; printf "%.1f", d ? 100 * (n[1] - t[1]) / d : 0 }'; }

# result NAME MICROSECONDS [KIB]
result() {
  printf '%s\t%s\t%s\n' "$1" "$2" "${3:-0}" >>"$work/results"
  note "  $1: $(awk -v us="$2" 'BEGIN { printf "%.2f s", us / 1e6 }')"
}

table_head() {
  printf '| %s | seconds (median) | per second | ratio | peak memory |\n|---|---:|---:|---:|---:|\n' "$1"
}

# One row a way; ratios against the first of them.
rows_of_table() {
  local names name first='' median
  names=$(cut -f 1 "$work/results" | awk '!seen[$0]++')
  while IFS= read -r name; do
    median=$(awk -F '\t' -v name="$name" '$1 == name { print $2 }' "$work/results" | sort -n |
      awk '{ at[NR] = $1 } END { print at[int((NR + 1) / 2)] }')
    first=${first:-$median}
    awk -F '\t' -v name="$name" -v us="$median" -v first="$first" -v units="$units" -v unit="$unit" '
      $1 == name && $3 > peak { peak = $3 }
      END {
        printf "| %s | %.2f | %.0f %s | %.1f | %s |\n", name, us / 1e6, units / (us / 1e6), unit, first / us,
          peak ? sprintf("%.0f MiB", peak / 1024) : ""
      }' "$work/results"
  done <<<"$names"
}
