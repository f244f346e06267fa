# shellcheck shell=bash
# Part of scripts/bench: how fresh a following region is, and what following costs when there is nothing to do.

# A row every 50 ms with the time just before its commit, written by a procedure at the primary; and a procedure in the
# region that looks every 2 ms and notes how old each is when it is seen first. Both on this machine, so on one clock.
freshness_workload() {
  title="200 transactions a second"
  note "writing: tables of sysbench"
  start_primary
  mini_logs=()
  sql primary <<'SQL'
CREATE DATABASE g;
CREATE DATABASE p;
CREATE TABLE g.beat (id BIGINT PRIMARY KEY, t DATETIME(6) NOT NULL);
DELIMITER //
CREATE PROCEDURE p.beats(IN first BIGINT, IN seconds INT)
BEGIN
  DECLARE until DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL seconds SECOND;
  DECLARE n BIGINT DEFAULT first;
  WHILE SYSDATE(6) < until DO
    INSERT INTO g.beat VALUES (n, SYSDATE(6));
    SET n = n + 1;
    DO SLEEP(0.05);
  END WHILE;
END //
SQL
  sysbench prepare >"$work/output" 2>&1 || { cat "$work/output" >&2; die "sysbench prepare failed"; }
  copy_base
}

watch_procedure() {
  sql region <<'SQL'
CREATE DATABASE bench;
CREATE TABLE bench.lag (id BIGINT PRIMARY KEY, us BIGINT NOT NULL, quarter INT NOT NULL) ENGINE = MEMORY;
DELIMITER //
CREATE PROCEDURE bench.watch(IN seconds INT)
BEGIN
  DECLARE began DATETIME(6) DEFAULT SYSDATE(6);
  DECLARE last, top BIGINT DEFAULT 0;
  SET SESSION sql_log_bin = 0;
  SELECT COALESCE(MAX(id), 0) INTO last FROM g.beat;
  WHILE SYSDATE(6) < began + INTERVAL seconds SECOND DO
    SELECT COALESCE(MAX(id), 0) INTO top FROM g.beat;
    IF top > last THEN
      INSERT INTO bench.lag SELECT id, TIMESTAMPDIFF(MICROSECOND, t, SYSDATE(6)),
        1 + FLOOR(4 * TIMESTAMPDIFF(MICROSECOND, began, t) / (seconds * 1000000)) FROM g.beat WHERE id > last AND id <= top;
      SET last = top;
    END IF;
    DO SLEEP(0.002);
  END WHILE;
END //
SQL
}

# figures NAME SECONDS [QUARTER]: one row: how many, percentiles and the most.
figures() {
  local where='1 = 1'
  [ $# -lt 3 ] || where="quarter = $3"
  sql region -e "SELECT us FROM bench.lag WHERE $where ORDER BY us" | awk -v name="$1" -v seconds="$2" '
    { at[NR] = $1 / 1000 }
    function p(q) { return at[int((NR - 1) * q) + 1] }
    END { if (NR) printf "| %s | %d | %d | %.0f | %.0f | %.0f | %.0f |\n", name, seconds, NR, p(0.5), p(0.9), p(0.99), at[NR] }'
}

# rss PID, cpu PID: KiB; ticks of user and system time.
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null || echo 0; }
peak() { awk '/^VmHWM/ { print $2 }' "/proc/$1/status" 2>/dev/null || echo 0; }
cpu() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{ print $12 + $13 }'; }

# asked KIND: requests that the S3 server has answered with success or "not modified", of this kind. It logs the latter in
# colour, also into a file.
asked() { grep -caE "\"($(printf '\033')\[[0-9;]*m)?$1 [^\"]*\" (2|3)[0-9][0-9]" "$(s3_log)" || true; }
s3_log() { echo "${TABLECAST_S3_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tablecast/s3}/log"; }

start_s3() {
  local line
  line=$("$here/s3" start --port 0)
  s3_endpoint=$(sed -E 's/.*endpoint=([^ ]+).*/\1/' <<<"$line") s3_bucket=$(sed -E 's/.*bucket=([^ ]+).*/\1/' <<<"$line")
  export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench
}

# background NAME COMMAND...: leaves its pid in $pid_NAME.
background() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  printf -v "pid_$name" '%s' $!
}

# A service of this stream, and the region's config that leads to it.
start_service() {
  local made token url=''
  made=$("$binary" token --region bench --json)
  token=$(sed -nE 's/.*"token": ?"([^"]+)".*/\1/p' <<<"$made" | head -n 1)
  printf '%s\n' "$token" >"$work/token"
  printf '[[token]]\nname = "bench"\nsha256 = "%s"\nregion = "bench"\nscopes = ["read", "dump", "report"]\n' \
    "$(printf '%s' "$token" | sha256sum | cut -d ' ' -f 1)" >"$work/tokens.toml"
  printf '[serve]\nlisten = "127.0.0.1:0"\ntokens_file = "%s"\n' "$work/tokens.toml" >>"$work/source.toml"
  background serve "$binary" --config "$work/source.toml" serve
  for _ in $(seq 100); do
    url=$(sed -nE 's/.*serving (http[^ ,]+).*/\1/p' "$work/serve.log" | head -n 1)
    [ -z "$url" ] || break
    sleep 0.1
  done
  [ -n "$url" ] || { cat "$work/serve.log" >&2; die "tablecast serve did not start"; }
  sed -i "s|^\[region\]$|[region]\nsource_url = \"$url\"\ntoken_file = \"$work/token\"|" "$work/region.toml"
}

# follow_stream poll|service: a new stream and an empty region, both followed.
follow_stream() {
  empty_region
  dump_stream 'g.*'
  printf '[upload]\ninterval = "%s"\n' "$interval" >>"$work/source.toml"
  "$binary" --quiet --config "$work/source.toml" dump take --all-tables >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "dump take failed"; }
  "$binary" --quiet --config "$work/region.toml" bootstrap >"$work/output" 2>&1 ||
    { cat "$work/output" >&2; die "bootstrap failed"; }
  pids=()
  if [ "$1" = service ]; then
    start_service
    pids+=("$pid_serve")
  fi
  background upload "$binary" --quiet --config "$work/source.toml" upload --follow
  background apply "$binary" --quiet --config "$work/region.toml" apply --follow
  pids+=("$pid_upload" "$pid_apply")
}

# note_memory SECONDS: what each program holds after each quarter of them but the last.
note_memory() {
  local quarter program pid
  for quarter in 1 2 3; do
    sleep $(($1 / 4))
    for program in upload apply serve; do
      pid=pid_$program
      [ ! -s "$work/usage-$program" ] || printf ' %s' "$(rss "${!pid}")" >>"$work/usage-$program"
    done
  done
}

# measured SECONDS: the load and the watch, for so long; memory, CPU and requests of the programs around it.
measured() {
  local seconds=$1 load beats program
  sysbench --time=$((seconds + 25)) --threads=4 --rate=200 run >"$work/sysbench.log" 2>&1 &
  load=$!
  first_beat=$((first_beat + 10000000))
  sql primary -e "CALL p.beats($first_beat, $((seconds + 20)))" &
  beats=$!
  sleep 10
  rm -f "$work"/usage-*
  for program in upload apply serve; do
    local pid=pid_$program
    [ -z "${!pid:-}" ] || printf '%s %s' "$(rss "${!pid}")" "$(cpu "${!pid}")" >"$work/usage-$program"
  done
  local puts gets
  puts=$(asked PUT) gets=$(asked GET)
  note_memory "$seconds" &
  local memory=$!
  sql region -e "CALL bench.watch($seconds)"
  wait "$memory"
  puts=$(($(asked PUT) - puts)) gets=$(($(asked GET) - gets))
  requests="$((puts * 3600 / seconds)) PUT and $((gets * 3600 / seconds)) GET an hour"
  for program in upload apply serve; do
    local pid=pid_$program
    [ -s "$work/usage-$program" ] || continue
    kill -0 "${!pid}" 2>/dev/null || { cat "$work/$program.log" >&2; die "tablecast $program has ended"; }
    printf ' %s %s %s\n' "$(rss "${!pid}")" "$(cpu "${!pid}")" "$(peak "${!pid}")" >>"$work/usage-$program"
  done
  wait "$beats" || die "the heartbeat failed"
  end "$load"
  wait "$load" 2>/dev/null || true
}

stop_following() {
  end "${pids[@]}"
  wait "${pids[@]}" 2>/dev/null || true
  pids=() pid_serve='' pid_upload='' pid_apply=''
}

# What the programs used, as rows of a table.
usage_rows() {
  local program
  for program in upload apply serve; do
    [ ! -s "$work/usage-$program" ] || awk -v name="$program" -v way="$1" -v seconds="$2" -v hertz="$(getconf CLK_TCK)" '
      # At the begin (memory, CPU), after three quarters (memory), at the end (memory, CPU, peak).
      { printf "| %s: %s | %.1f MiB |", way, name, $1 / 1024
        for (i = 3; i <= 6; i++) printf " %.1f MiB |", $i / 1024
        printf " %.1f MiB | %.1f %% |\n", $8 / 1024, 100 * ($7 - $2) / hertz / seconds }' "$work/usage-$program"
  done
}

bench_freshness() {
  local way name quarter first_beat=0 pids=() requests='' short=$((seconds > 1200 ? seconds / 4 : (seconds + 3) / 4))
  [ "$short" -ge 30 ] || short=$((seconds < 30 ? seconds : 30))
  freshness_workload
  start_s3
  : >"$work/fresh"
  : >"$work/used"
  for way in service poll native; do
    [ -z "$only" ] || [ "$only" = "$way" ] || continue
    local length=$short
    [ "$way" != service ] || length=$seconds
    note "freshness: $way, $length s"
    case $way in
      native)
        name='native replica, 4 workers'
        copy_base
        fresh_region
        sql region -e "$(forget_gtids); SET GLOBAL gtid_purged = '$base'"
        follow region
        sql region -e 'START REPLICA'
        ;;
      service) name="Tablecast, told by the service" && follow_stream service ;;
      poll) name="Tablecast, polling" && follow_stream poll ;;
    esac
    watch_procedure
    measured "$length"
    figures "$name" "$length" >>"$work/fresh"
    if [ "$way" = service ]; then
      for quarter in 1 2 3 4; do figures "— its quarter $quarter" $((length / 4)) $quarter >>"$work/fresh"; done
    fi
    if [ "$way" != native ]; then
      printf '%s: %s.\n' "$name" "$requests" >>"$work/requests"
      usage_rows "$name" "$length" >>"$work/used"
      stop_following
      "$binary" --quiet --config "$work/source.toml" upload >"$work/output" 2>&1 || die "upload failed"
      "$binary" --quiet --config "$work/region.toml" apply >"$work/output" 2>&1 || die "apply failed"
    else
      sql region -e "SELECT WAIT_FOR_EXECUTED_GTID_SET('$(gtids primary)', 60)" >/dev/null
    fi
    tables='g.beat, g.sbtest1, g.sbtest2, g.sbtest3, g.sbtest4'
    check_equal
  done
  "$here/s3" stop
  printf '\n### Freshness\n\n'
  printf 'From just before a commit at the primary until it can be read in the region, 20 readings a second, while sysbench\n'
  printf '(oltp_write_only) commits 200 transactions a second. S3 on loopback (moto), `upload.interval = "%s"`, `apply.workers = 4`;\n' "$interval"
  printf '`serve.watch` and `apply.poll` as by default. Tables equal at the end.\n\n'
  printf '| milliseconds | seconds | readings | median | 90 %% | 99 %% | most |\n|---|---:|---:|---:|---:|---:|---:|\n'
  cat "$work/fresh"
  printf '\n| what it takes | memory at the begin | after a quarter | a half | three quarters | at the end | peak | of one core |\n|---|---:|---:|---:|---:|---:|---:|---:|\n'
  cat "$work/used"
  printf '\n'
  cat "$work/requests" 2>/dev/null || true
}

# Nothing is written anywhere. Each program for itself, so that the requests are its own.
bench_idle() {
  local way pids=() requests='' settle=$((idle_seconds < 110 ? idle_seconds : 110)) puts gets program
  freshness_workload
  start_s3
  printf '\n### Following an idle stream\n\n'
  printf 'Nothing is written at the source. Each for %s s, %s s after it began, against S3 on loopback (moto).\n\n' "$idle_seconds" "$settle"
  printf '| what | PUT an hour | GET and LIST an hour | CPU seconds an hour | memory |\n|---|---:|---:|---:|---:|\n'
  for way in upload poll service; do
    note "idle: $way"
    follow_stream "$([ $way = service ] && echo service || echo poll)"
    sleep 3
    case $way in
      upload) program=upload && kill "$pid_apply" ;;
      *) program=apply && kill "$pid_upload" ;;
    esac
    sleep "$settle"
    local pid=pid_$program used used_by_service=0
    used=$(cpu "${!pid}") puts=$(asked PUT) gets=$(asked GET)
    [ -z "${pid_serve:-}" ] || used_by_service=$(cpu "$pid_serve")
    sleep "$idle_seconds"
    puts=$(($(asked PUT) - puts)) gets=$(($(asked GET) - gets)) used=$(($(cpu "${!pid}") - used))
    [ -z "${pid_serve:-}" ] || used_by_service=$(($(cpu "$pid_serve") - used_by_service))
    idle_row() {
      awk -v name="$1" -v puts="$2" -v gets="$3" -v ticks="$4" -v rss="$5" -v s="$idle_seconds" -v hertz="$(getconf CLK_TCK)" \
        'BEGIN { printf "| %s | %s | %s | %.0f | %.1f MiB |\n", name, puts == "" ? "" : int(puts * 3600 / s), gets == "" ? "" : int(gets * 3600 / s),
          ticks / hertz * 3600 / s, rss / 1024 }'
    }
    case $way in
      upload) idle_row '`upload --follow`' $puts $gets $used "$(rss "$pid_upload")" ;;
      poll) idle_row '`apply --follow`, polling' $puts $gets $used "$(rss "$pid_apply")" ;;
      service)
        idle_row '`apply --follow`, told by the service, with the service' $puts $gets $used "$(rss "$pid_apply")"
        idle_row '— the service' '' '' $used_by_service "$(rss "$pid_serve")"
        ;;
    esac
    stop_following
  done
  "$here/s3" stop
}
