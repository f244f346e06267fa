# shellcheck shell=bash
# Part of scripts/bench: the ways from the primary's binlogs to a region's tables. Each notes its time by `result`.

uploads=0

mysql_section() { printf '[mysql]\nhost = "127.0.0.1"\nport = %s\nuser = "root"\ntls = { mode = "off" }\n' "$(port "$1")"; }

# Into a new stream that begins where the workload began.
way_upload() {
  uploads=$((uploads + 1))
  store=$work/bucket$uploads
  mkdir "$store"
  cat >"$work/source.toml" <<TOML
role = "source"
stream = "bench$uploads"
store = "file://$store"
$(mysql_section primary)
[upload]
codec = "$1"
TOML
  local table set=()
  for table in $set_of_tables; do set+=(--table "$table"); done
  "$binary" --config "$work/source.toml" stream init "${set[@]}" --source-gtid "$base" >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "stream init failed"; }
  timed "tablecast upload, $1" "$binary" --quiet --config "$work/source.toml" upload
  note "  $(du -sm "$store" | cut -f 1) MiB in the bucket"
}

way_apply() {
  local list=''
  for table in $set_of_tables; do list+="\"$table\", "; done
  cat >"$work/region.toml" <<TOML
role = "region"
stream = "bench$uploads"
store = "file://$store"
$(mysql_section region)
[region]
name = "bench"
tables = [${list%, }]
[apply]
workers = 4
guard = "off"
TOML
  # Its own tables in the region are there before, as the replica's channel is.
  "$binary" --quiet --config "$work/region.toml" apply --until 0 >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "apply --until 0 failed"; }
  timed 'tablecast apply, 4 workers' "$binary" --quiet --config "$work/region.toml" apply
}

# `mysqlbinlog | mysql`; with a filter, from the binlogs of a mini-replica, as one does without Tablecast.
way_pipe() {
  local files=("${logs[@]}") began
  if [ "$title" != "${title/travel/}" ]; then
    [ -n "${mini_logs:-}" ] || make_mini
    files=("${mini_logs[@]}")
  fi
  began=${EPOCHREALTIME/./}
  "$here/mysql" tool mysqlbinlog --no-defaults --verify-binlog-checksum "${files[@]}" |
    "$here/mysql" client "$servers"-region --binary-mode || die "mysqlbinlog | mysql failed"
  result '`mysqlbinlog \| mysql`' $((${EPOCHREALTIME/./} - began))
}

make_mini() {
  note '  (making a mini-replica, whose binlogs the pipe reads)'
  "$here/mysql" rm "$servers"-mini >/dev/null 2>&1 || true
  "$here/mysql" start "$servers"-mini --owner $$ -- "${server_options[@]}" --replicate-do-db=g >/dev/null
  sql mini -e 'CREATE DATABASE g'
  "$here/mysql" client "$servers"-mini g <"$work/base.sql"
  sql mini -e "$(forget_gtids); SET GLOBAL gtid_purged = '$base'"
  follow mini
  sql mini -e "START REPLICA; SELECT WAIT_FOR_EXECUTED_GTID_SET('$all', 3600)" >/dev/null
  sql mini -e 'STOP REPLICA; FLUSH BINARY LOGS'
  local folder
  folder=$("$here/mysql" show "$servers"-mini | sed -E 's/.*datadir=([^ ]+) .*/\1/')
  mini_logs=("$folder"/binlog.[0-9]*)
  unset 'mini_logs[-1]'
}

follow() {
  sql "$1" -e "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=$(port primary), SOURCE_USER='root',
    SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
}

# A native replica with 4 workers. apply: what it does after everything has been received; fetch: receiving too.
way_native() {
  sql region -e "$(forget_gtids); SET GLOBAL gtid_purged = '$base'"
  follow region
  local name='native replica, 4 workers' began missing
  if [ "$1" = apply ]; then
    [ "$title" = "${title/travel/}" ] || sql region -e 'CHANGE REPLICATION FILTER REPLICATE_DO_DB = (g)'
    sql region -e 'START REPLICA IO_THREAD'
    while missing=$(sql region -e "SELECT GTID_SUBTRACT(GTID_SUBTRACT('$all', '$base'), RECEIVED_TRANSACTION_SET)
      FROM performance_schema.replication_connection_status") && [ -n "$missing" ]; do sleep 0.2; done
  else
    name='native replica, 4 workers (a mini-replica: receives, filters, applies, logs)'
  fi
  began=${EPOCHREALTIME/./}
  sql region -e "START REPLICA; SELECT WAIT_FOR_EXECUTED_GTID_SET('$all', 3600)" >"$work/output"
  [ "$(cat "$work/output")" = 0 ] || die "the native replica stands still" "scripts/mysql log $servers-region"
  result "$name" $((${EPOCHREALTIME/./} - began))
}

# The binlogs as they are, all of them, fetched; compressed too, if asked for.
way_fetch() {
  mkdir -p "$work/fetched"
  local names=() log name='`mysqlbinlog --read-from-remote-server --raw` (no filter)' verify=()
  for log in "${logs[@]}"; do names+=("$(basename "$log")"); done
  [ "$1" != gzip ] || verify=(--verify-binlog-checksum)
  local began=${EPOCHREALTIME/./}
  "$here/mysql" tool mysqlbinlog --no-defaults --read-from-remote-server --raw ${verify[@]+"${verify[@]}"} \
    --user=root --host=127.0.0.1 --port="$(port primary)" --result-file="$work/fetched/" "${names[@]}"
  if [ "$1" = gzip ]; then
    gzip -6 --force "$work"/fetched/binlog.[0-9]*
    name='the same with `--verify-binlog-checksum`, then gzip'
  fi
  result "$name" $((${EPOCHREALTIME/./} - began))
  note "  $(du -sm "$work/fetched" | cut -f 1) MiB"
  rm -rf "$work/fetched"
}
