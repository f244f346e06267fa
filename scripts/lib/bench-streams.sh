# shellcheck shell=bash
# Part of scripts/bench: many streams in one process, nearly all of them idle, as one run from cron a minute meets them.

# The tests' own S3 server: it costs next to nothing, and counts what it is asked.
start_counting_s3() {
  local line server
  # Not `cargo bench`: that would stand between us and its input.
  server=$(cargo build --release --locked --quiet --bench s3 --message-format=json | grep '"kind":\["bench"\]' | sed -nE 's/.*"executable":"([^"]*)".*/\1/p') ||
    die "cargo build failed"
  coproc S3 { exec "$server"; }
  read -r line <&"${S3[0]}"
  s3_pid=$S3_PID
  s3_endpoint=$(sed -E 's/.*endpoint=([^ ]+).*/\1/' <<<"$line") s3_bucket=$(sed -E 's/.*bucket=([^ ]+).*/\1/' <<<"$line")
  export AWS_ACCESS_KEY_ID=tablecast-tests AWS_SECRET_ACCESS_KEY=not-a-secret AWS_EC2_METADATA_DISABLED=true
}

# How many requests it has had since the last call.
s3_requests() {
  local count
  echo >&"${S3[1]}"
  read -r count <&"${S3[0]}"
  echo "$count"
}

mysqld_pid() { "$here/mysql" show "$servers-$1" | sed -E 's/.*pid=([0-9]+).*/\1/'; }

# CPU time of a process until now, in milliseconds.
cpu_of() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%d\n", ($12 + $13) * 1000 / hz }' "/proc/$1/stat"; }

# many_configs: a table, a source's and a region's file for each stream.
many_configs() {
  local n name
  mkdir -p "$work/sources" "$work/regions"
  for ((n = 1; n <= streams; n++)); do
    printf -v name 's%04d' "$n"
    cat >"$work/sources/$name.toml" <<TOML
role = "source"
stream = "$name"
store = "s3://$s3_bucket/$name"
[mysql]
host = "127.0.0.1"
port = $1
user = "root"
tls = { mode = "off" }
[s3]
region = "us-east-1"
endpoint = "$s3_endpoint"
path_style = true
TOML
    { sed 's/^role = .*/role = "region"/; s/^port = .*/port = '"$2"'/' "$work/sources/$name.toml"
      printf '[region]\nname = "bench"\ntables = ["%s.*"]\n' "$name"; } >"$work/regions/$name.toml"
    echo "CREATE DATABASE $name; CREATE TABLE $name.t (id INT PRIMARY KEY, n INT NOT NULL);" >&3
  done 3>"$work/tables.sql"
}

# many NAME SERVER ROLE COMMAND...: one process for all streams; a row with its time, what everybody's CPU did, its peak
# memory, and the requests to S3.
many() {
  local name=$1 server=$2 role=$3 pid peak=0 now status=0 began ended own requests before after mysqld
  shift 3
  mysqld=$(mysqld_pid "$server")
  s3_requests >/dev/null
  before="$(cpu_of "$mysqld") $(cpu_of "$s3_pid")"
  began=${EPOCHREALTIME/./}
  rm -f "$work/pid"
  (
    TIMEFORMAT='%U %S'
    time { "$binary" --config "$work/$role" "$@" >"$work/output" 2>&1 & echo $! >"$work/pid"; wait $!; }
  ) 2>"$work/cpu" &
  until [ -s "$work/pid" ]; do sleep 0.01; done
  pid=$(cat "$work/pid")
  while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
    peak=$now
    sleep 0.1
  done
  wait $! || status=$?
  ended=${EPOCHREALTIME/./}
  requests=$(s3_requests)
  own=$(awk '{ print ($1 + $2) * 1000 }' "$work/cpu")
  after="$(cpu_of "$mysqld") $(cpu_of "$s3_pid")"
  [ "$status" -eq 0 ] || { tail -n 20 "$work/output" >&2; die "$name ended with $status"; }
  note "  $name: $(tail -n 1 "$work/output")"
  awk -v name="$name" -v us=$((ended - began)) -v own="$own" -v before="$before" -v after="$after" -v peak="$peak" \
    -v requests="$requests" -v streams="$streams" 'BEGIN {
      split(before, b, " "); split(after, a, " ")
      printf "| %s | %.1f | %.1f | %.1f | %.1f | %.0f MiB | %d (%.2f a stream) |\n", name, us / 1e6, own / 1e3,
        (a[1] - b[1]) / 1e3, (a[2] - b[2]) / 1e3, peak / 1024, requests, requests / streams }'
}

bench_streams() {
  local run folder
  start_primary
  "$here/mysql" rm "$servers"-region >/dev/null 2>&1 || true
  "$here/mysql" start "$servers"-region --owner $$ -- "${server_options[@]}" >/dev/null
  start_counting_s3
  note "making $streams streams"
  many_configs "$(port primary)" "$(port region)"
  "$here/mysql" client "$servers"-primary <"$work/tables.sql"
  for folder in "$work"/sources/*; do basename "$folder" .toml; done | xargs -P "$(nproc)" -I NAME \
    "$binary" --quiet --config "$work/sources/NAME.toml" stream init --table 'NAME.*' >"$work/output" 2>&1 ||
    { tail -n 20 "$work/output" >&2; die "stream init failed"; }
  printf '\n### %s streams in one process\n\n' "$streams"
  printf 'One source server, one region server, one S3 server over loopback; a schema with one table for each stream.\n'
  printf 'CPU is user and system time of all threads.\n\n'
  printf '| one process for all | seconds | its CPU | CPU of mysqld | CPU of the S3 server | peak memory | requests to S3 |\n'
  printf '|---|---:|---:|---:|---:|---:|---:|\n'
  many '`upload`, the first' primary sources upload
  many '`apply`, the first' region regions apply
  # Then every head is written once, which takes in whatever the source has executed for others.
  sleep 61
  many '`upload`, the one of a minute that writes the heads' primary sources upload
  many '`apply`, after it' region regions apply
  for ((run = 1; run <= runs; run++)); do
    many "\`upload\`, idle ($run)" primary sources upload
    many "\`apply\`, idle ($run)" region regions apply
  done
  sed -E 's/^CREATE DATABASE (s[0-9]+);.*/INSERT INTO \1.t VALUES (1, 1);/' "$work/tables.sql" |
    "$here/mysql" client "$servers"-primary
  many '`upload`, a transaction in each' primary sources upload
  many '`apply`, a transaction in each' region regions apply
  exec {S3[1]}>&-
}
