# shellcheck shell=bash
# Part of scripts/mysql: starts, stops and removes servers. A server is a folder below $home/servers:
#   data/       its data          options      options given after --, one a line
#   settings    port=, socket=    error.log    owner: PID and start time of the process it lives for
# Whether it runs is never stored: it is asked of the kernel each time.

check_name() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$ ]] ||
    die "server name '$1': letters, digits, dot, dash and underscore, at most 64"
}

# value NAME KEY: a setting of a server.
value() {
  [ -r "$home/servers/$1/settings" ] || die "no server named $1" "scripts/mysql list"
  sed -n "s/^$2=//p" "$home/servers/$1/settings"
}

# pids_of NAME: the processes that have the server's data folder open, by their command lines, since pids are used
# again. That of a zombie is empty. The pattern comes from a file, lest grep finds itself.
pids_of() {
  grep -lzxFf <(printf '%s\n' "--datadir=$home/servers/$1/data") /proc/[0-9]*/cmdline 2>/dev/null |
    sed -E 's|^/proc/([0-9]+)/.*|\1|'
}

# pid_of NAME: the server's process, if it runs.
pid_of() {
  local pid
  pid=$(pids_of "$1" | head -n 1)
  [ -n "$pid" ] && printf '%s\n' "$pid"
}

# Waits until a process has closed its files: it is gone, or a zombie that nobody reaps (in a container).
wait_gone() {
  local name=$1 pid=$2 left=$((60 * 50))
  while [ -n "$(started_at "$pid")" ]; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || die "server $name (pid $pid) has not ended within a minute" "scripts/mysql kill $name"
    sleep 0.02
  done
}

show_server() {
  check_name "${1:-}"
  local pid
  pid=$(pid_of "$1") || pid=
  printf 'port=%s socket=%s datadir=%s pid=%s\n' "$(value "$1" port)" "$(value "$1" socket)" \
    "$home/servers/$1/data" "$pid"
}

list_servers() {
  local dir name pid
  for dir in "$home"/servers/*/; do
    [ -r "$dir/settings" ] || continue
    name=$(basename "$dir")
    if pid=$(pid_of "$name"); then
      printf '%s running %s\n' "$name" "$(show_server "$name")"
    else
      printf '%s stopped %s\n' "$name" "$(show_server "$name")"
    fi
  done
}

start_server() {
  check_name "${1:-}"
  local name=$1 port='' owner=''
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      --port) port=${2:?--port N}; shift 2 ;;
      --port=*) port=${1#*=}; shift ;;
      --owner) owner=${2:?--owner PID}; shift 2 ;;
      --owner=*) owner=${1#*=}; shift ;;
      --) shift; break ;;
      *) die "start: unknown option $1" "options for mysqld go after --" ;;
    esac
  done
  need_mysql
  locked "servers/$name" start_locked "$name" "$port" "$owner" "$@"
  [ -z "$owner" ] || ensure_watcher "$owner"
  show_server "$name"
}

start_locked() {
  local name=$1 port=$2 owner=$3
  shift 3
  local dir=$home/servers/$name attempts=1
  ! pid_of "$name" >/dev/null || die "server $name is already running" "scripts/mysql restart $name"
  mkdir -p "$dir/tmp"
  [ -z "$owner" ] || printf '%s %s\n' "$owner" "$(started_at "$owner")" >"$dir/owner"
  if [ ! -d "$dir/data" ]; then
    rm -rf "$dir/data.new"
    cp -a --reflink=auto --sparse=always "$template" "$dir/data.new"
    mv "$dir/data.new" "$dir/data"
  fi
  [ $# -eq 0 ] || printf '%s\n' "$@" >"$dir/options"
  if [ -z "$port" ] && [ -r "$dir/settings" ]; then port=$(value "$name" port); fi
  case ${port:-auto} in auto) attempts=5 port=auto ;; esac
  local socket=$dir/mysqld.sock
  # The kernel takes no more than 107 bytes as the path of a socket.
  if [ "${#socket}" -gt 100 ]; then
    local short=/tmp/tablecast-mysql-$(id -u)
    mkdir -p -m 700 "$short"
    socket=$short/$(printf '%s' "$dir" | sha256sum | cut -c1-24).sock
  fi
  local try chosen=$port
  for ((try = 1; try <= attempts; try++)); do
    if [ "$port" = auto ]; then
      locked ports take_port "$name" "$socket"
      chosen=$(value "$name" port)
    else
      printf 'port=%s\nsocket=%s\n' "$port" "$socket" >"$dir/settings"
    fi
    ! run_server "$name" "$chosen" "$socket" || return 0
    # Somebody outside our folder took the port between the look and the start.
    grep -q 'Address already in use\|Do you already have another mysqld server running on port' \
      "$dir/error.log" || break
  done
  end_server "$name" KILL
  grep -E '\[ERROR\]' "$dir/error.log" | tail -n 10 >&2 || true
  die "start server $name on port $chosen" "the whole log: $dir/error.log"
}

# A free port below the range that the kernel gives to outgoing connections, not promised to another server.
take_port() {
  local name=$1 socket=$2 port
  while :; do
    port=$((13000 + (RANDOM * 32768 + RANDOM) % 19000))
    ! grep -qsx "port=$port" "$home"/servers/*/settings || continue
    ! (exec 8<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
    break
  done
  printf 'port=%s\nsocket=%s\n' "$port" "$socket" >"$home/servers/$name/settings"
}

# --daemonize returns when the server answers, or has failed.
run_server() {
  local name=$1 port=$2 socket=$3 dir=$home/servers/$1
  local options=()
  [ ! -r "$dir/options" ] || mapfile -t options <"$dir/options"
  : >"$dir/error.log"
  # A killed server leaves its lock behind, and would be believed alive while nobody has reaped it.
  rm -f "$socket" "$socket.lock"
  (
    exec 9>&- </dev/null >/dev/null 2>>"$dir/error.log"
    cd "$dir/data"
    run_mysqld \
      --datadir="$dir/data" --socket="$socket" --port="$port" --bind-address=127.0.0.1 --mysqlx=OFF \
      --user="$(id -un)" --pid-file="$dir/data/mysqld.pid" --log-error="$dir/error.log" --tmpdir="$dir/tmp" \
      --secure-file-priv= --local-infile=ON --skip-name-resolve --server-id="$port" --report-host=127.0.0.1 \
      --report-port="$port" --gtid-mode=ON --enforce-gtid-consistency=ON --log-bin=binlog --relay-log=relay \
      --sync-binlog=0 --innodb-flush-log-at-trx-commit=2 --innodb-buffer-pool-size=64M \
      --innodb-data-file-path=ibdata1:5M:autoextend --innodb-autoextend-increment=8 \
      --innodb-buffer-pool-dump-at-shutdown=OFF --innodb-buffer-pool-load-at-startup=OFF \
      --innodb-log-buffer-size=8M --loose-innodb-redo-log-capacity=128M --max-connections=200 \
      --table-open-cache=400 --table-definition-cache=400 --key-buffer-size=1M \
      --performance-schema=ON --performance-schema-digests-size=200 \
      --performance-schema-events-statements-history-long-size=100 \
      --performance-schema-events-stages-history-long-size=0 \
      --performance-schema-events-waits-history-long-size=0 \
      --performance-schema-events-transactions-history-long-size=0 \
      --performance-schema-error-size=0 --performance-schema-accounts-size=20 \
      --performance-schema-hosts-size=20 --performance-schema-users-size=20 \
      --performance-schema-max-table-instances=500 --performance-schema-max-table-handles=500 \
      --performance-schema-max-index-stat=500 --performance-schema-max-thread-instances=300 \
      --performance-schema-max-mutex-instances=1000 --performance-schema-max-rwlock-instances=1000 \
      --performance-schema-max-cond-instances=500 --performance-schema-max-file-instances=500 \
      --performance-schema-max-socket-instances=50 --performance-schema-max-metadata-locks=1000 \
      --performance-schema-max-prepared-statements-instances=50 --performance-schema-max-program-instances=50 \
      ${options[@]+"${options[@]}"} --daemonize
  )
}

stop_server() {
  check_name "${1:-}"
  value "$1" port >/dev/null
  locked "servers/$1" end_server "$1" TERM
}

kill_server() {
  check_name "${1:-}"
  value "$1" port >/dev/null
  locked "servers/$1" end_server "$1" KILL
}

end_server() {
  local pid pids
  pids=$(pids_of "$1") || true
  for pid in $pids; do
    kill "-$2" "$pid" 2>/dev/null || true
  done
  for pid in $pids; do
    wait_gone "$1" "$pid"
  done
}

restart_server() {
  check_name "${1:-}"
  local name=$1
  shift
  stop_server "$name"
  start_server "$name" "$@"
}

remove_servers() {
  [ $# -gt 0 ] || die "rm: which server?" "scripts/mysql list"
  if [ "$1" = --all ]; then
    local dir names=()
    for dir in "$home"/servers/*/; do
      [ ! -d "$dir" ] || names+=("$(basename "$dir")")
    done
    [ ${#names[@]} -gt 0 ] || return 0
    set -- "${names[@]}"
  fi
  local name
  for name; do
    check_name "$name"
    [ ! -d "$home/servers/$name" ] || locked "servers/$name" remove_server "$name"
  done
}

remove_server() {
  local dir=$home/servers/$1 socket
  end_server "$1" KILL
  socket=$(sed -n 's/^socket=//p' "$dir/settings" 2>/dev/null) || socket=
  [ -z "$socket" ] || rm -f "$socket" "$socket.lock"
  rm -rf "$dir" "$home/servers/$1.lock"
}

# started_at PID: field 22 of /proc/PID/stat, which tells a process from a later one of the same number. The
# second field may hold spaces and parentheses.
started_at() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  # shellcheck disable=SC2086 # to be split
  set -- $stat
  [ "$1" = Z ] || printf '%s\n' "${20}"
}

# Removes the servers whose owner has ended.
reap() {
  local file pid start
  for file in "$home"/servers/*/owner; do
    [ -r "$file" ] || continue
    read -r pid start <"$file" || true
    [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] || remove_servers "$(basename "$(dirname "$file")")"
  done
}

# One process for each owner waits for its end and then reaps.
ensure_watcher() {
  (
    exec </dev/null >/dev/null 2>&1
    TABLECAST_MYSQL_HOME=$home setsid -f "$self" watch-owner "$1"
  )
}

watch_owner() {
  local pid=${1:?PID} start
  exec 7>"$home/owner-$pid.lock"
  flock -n 7 || return 0
  start=$(started_at "$pid")
  while [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ]; do
    sleep 1
  done
  reap
  rm -f "$home/owner-$pid.lock"
}
