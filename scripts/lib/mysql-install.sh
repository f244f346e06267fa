# shellcheck shell=bash
# Part of scripts/mysql: finds or gets a MySQL server, and makes the data folder that new servers are copied from.
#
# Debian 12 has no MySQL server; Debian unstable has. The machine's own apt fetches it from the mirror that the
# machine already uses and checks the archive's signature with the keys that the machine already trusts, but with
# lists, cache and status of its own: nothing is installed. The packages are unpacked below $home and run through
# their own dynamic loader, so that they need nothing of the system's libc.

# Sets mysql_version, mysqld, basedir, loader (empty for a native one) and template.
need_mysql() {
  if ! load_install 2>/dev/null; then
    locked install install_mysql
    load_install || die "read $home/install: it is incomplete" "delete $home and try again"
  fi
}

load_install() {
  [ -r "$home/install" ] || return 1
  # Written by install_mysql; one NAME=value a line.
  local key val wanted=
  while IFS='=' read -r key val; do
    case $key in
      mysql_version) mysql_version=$val ;;
      mysqld) mysqld=$val ;;
      basedir) basedir=$val ;;
      loader) loader=$val ;;
      libraries) libraries=$val ;;
      template) template=$val ;;
      wanted) wanted=$val ;;
    esac
  done <"$home/install"
  [ "$wanted" = "${TABLECAST_MYSQLD:-}" ] && [ -x "$mysqld" ] && [ -d "$template" ]
}

install_mysql() {
  # Somebody else may have done it while we waited for the lock.
  ! load_install 2>/dev/null || return 0
  loader='' libraries=''
  find_mysqld || download_mysql
  make_template
  cat >"$home/install.new" <<SETTINGS
mysql_version=$mysql_version
mysqld=$mysqld
basedir=$basedir
loader=$loader
libraries=$libraries
template=$template
wanted=${TABLECAST_MYSQLD:-}
SETTINGS
  mv "$home/install.new" "$home/install"
}

# A mysqld that is already on the machine: MySQL (not MariaDB), 8.0 or newer.
find_mysqld() {
  local found version
  case ${TABLECAST_MYSQLD:-} in
    download) return 1 ;;
    '') found=$(PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/local/mysql/bin command -v mysqld) || return 1 ;;
    *) found=$TABLECAST_MYSQLD ;;
  esac
  found=$(readlink -f "$found")
  version=$("$found" --no-defaults --version 2>/dev/null) || version=
  if [[ $version != *MariaDB* && $version =~ Ver\ ([0-9]+)\.([0-9]+)\.([0-9]+) && ${BASH_REMATCH[1]} -ge 8 ]]; then
    mysqld=$found
    mysql_version=${BASH_REMATCH[1]}.${BASH_REMATCH[2]}.${BASH_REMATCH[3]}
    basedir=$(dirname "$(dirname "$found")")
    return 0
  fi
  [ -z "${TABLECAST_MYSQLD:-}" ] || die "TABLECAST_MYSQLD=$found is not MySQL 8.0 or newer: ${version:-no version}"
  printf 'passing over %s: %s\n' "$found" "${version:-it does not run}" >&2
  return 1
}

download_mysql() {
  printf 'getting MySQL through apt (66 MB, once)...\n' >&2
  fetch_unstable "$home/debian-mysql" mysql-server-core mysql-client-core libc-bin ||
    die "no MySQL server here, and none to be got: $fetch_failure" \
      "install MySQL 8.0 or newer and put its mysqld on PATH, or name it with TABLECAST_MYSQLD"
  mysql_version=$fetched_version
  local prefix=$home/debian-$mysql_version
  rm -rf "$prefix"
  mv "$home/debian-mysql" "$prefix"
  find_loader "$prefix"
  basedir=$prefix/usr
  mysqld=$basedir/sbin/mysqld
}

# Sets loader and libraries to those of an unpacked libc.
find_loader() {
  loader=$(find "$1" -path '*/usr/lib/*-linux-gnu/ld-linux*.so.*' | head -n 1)
  [ -n "$loader" ] || die "the downloaded libc has no dynamic loader below $1/usr/lib"
  libraries=$(dirname "$loader")
}

# fetch_unstable FOLDER PACKAGE...: unpacks packages of Debian unstable, with all that they depend on, into a folder.
# Sets fetched_version, that of the first; or fetch_failure.
fetch_unstable() {
  local folder=$1 tool work package
  shift
  for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || { fetch_failure="this machine has no $tool"; return 1; }
  done
  work=$home/download.$$
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
  : >"$work/status"
  : >"$work/preferences"
  # Mirrors that are frozen at some day are asked too: signatures are checked all the same, only their age is not.
  local apt=(
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=-
    -o "Dir::Etc::Preferences=$work/preferences" -o Dir::Etc::PreferencesParts=-
    -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status"
    -o "Dir::State::Extended_States=$work/extended" -o "Dir::Cache=$work/cache"
    -o "Dir::Log=$work" -o Acquire::Languages=none -o Acquire::Retries=3
    -o Acquire::Check-Valid-Until=false
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o APT::Update::Error-Mode=any -o APT::Update::Post-Invoke= -o DPkg::Post-Invoke=
    -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=1 -o APT::Install-Recommends=false
  )
  try_mirrors "$1" || {
    cat "$work/log" >&2
    fetch_failure="no apt source of this machine offers $1 of Debian unstable"
    return 1
  }
  apt-get "${apt[@]}" -qq -y install --download-only "$@" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fetch_failure="apt-get could not fetch $*"
    return 1
  }
  for package in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked"
  done
  fetched_version=$(dpkg-deb -f "$work/cache/archives/$1"_*.deb Version)
  # Only what runs is kept; Perl and its modules, on which much depends, only for what is written in it.
  rm -rf "$work/unpacked/usr/share/doc" "$work/unpacked/usr/share/man" "$work/unpacked/usr/share/locale"
  dpkg-deb -f "$work/cache/archives/$1"_*.deb Depends | grep -qE '(^|[ ,])perl' ||
    rm -rf "$work/unpacked"/usr/share/perl* "$work/unpacked"/usr/lib/*/perl*
  rm -rf "$folder"
  mv "$work/unpacked" "$folder"
  rm -rf "$work"
}

# Becomes a program of another package of Debian unstable, which is got if it is missing: mydumper and sysbench for
# the benchmarks, pt-online-schema-change (percona-toolkit; in Perl) for the tests.
run_extra() {
  local package=$1 program=$2 folder=$home/extra-$1
  shift 2
  [ -d "$folder" ] || locked install get_extra "$package" "$folder"
  find_loader "$folder"
  # MariaDB's client library looks for its login plugins where the system would have them.
  export MARIADB_PLUGIN_DIR=$libraries/libmariadb3/plugin
  # So does sysbench for its scripts.
  export LUA_PATH="$folder/usr/share/sysbench/?.lua;;"
  local command=("$program" "$folder/usr/bin/$program")
  if head -n 1 "$folder/usr/bin/$program" | grep -q perl; then
    # The unpacked Perl has its modules' folders built in as those of the system; it is to find its own.
    PERL5LIB=$(printf '%s:' "$folder/usr/share/perl5" "$libraries"/perl5/* "$folder"/usr/share/perl/* \
      "$libraries"/perl/* "$libraries/perl-base")
    export PERL5LIB
    unset PERL5OPT
    command=(perl "$folder/usr/bin/perl" "${command[1]}")
  fi
  exec "$loader" --library-path "$libraries" --argv0 "${command[@]}" "$@"
}

get_extra() {
  [ ! -d "$2" ] || return 0
  printf 'getting %s through apt (once)...\n' "$1" >&2
  fetch_unstable "$2" "$1" libc-bin || die "$fetch_failure"
}

# Points apt at unstable on each mirror that the machine uses itself, with each key ring that it trusts for that
# mirror, until one has the package. Security, updates and backports live beside a release and have no unstable.
try_mirrors() {
  local package=$1 uri file keyring
  : >"$work/log"
  while IFS='|' read -r uri file; do
    while read -r keyring; do
      printf 'deb %s%s unstable main\n' "${keyring:+[signed-by=$keyring] }" "$uri" >"$work/sources.list"
      if apt-get "${apt[@]}" -q update >>"$work/log" 2>&1 &&
        apt-cache "${apt[@]}" show "$package" >/dev/null 2>>"$work/log"; then
        return 0
      fi
    done < <(keyrings_of "$file")
  done < <(
    apt-get indextargets --no-release-info \
      --format '$(REPO_URI)|$(SOURCESENTRY)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
      awk -F'|' '$4 == "main" && $3 !~ /-/ && !seen[$1]++ { sub(/:[0-9]+$/, "", $2); print $1 "|" $2 }'
  )
  return 1
}

# The key rings that a sources file names, the archive's own, and last an empty line: apt's default ones.
keyrings_of() {
  {
    sed -nE 's/.*[Ss]igned-[Bb]y[:=][[:space:]]*(\/[^] ,]+).*/\1/p' "$1" 2>/dev/null || true
    ls /usr/share/keyrings/debian-archive-keyring.* 2>/dev/null || true
  } | awk '!seen[$0]++'
  echo
}

# Runs the server. A --defaults-file among the options has to come first: then it is that file that is read, and else
# none.
run_mysqld() {
  local options=("--basedir=$basedir") defaults=--no-defaults option others=()
  for option; do
    case $option in
      --defaults-file=*) defaults=$option ;;
      *) others+=("$option") ;;
    esac
  done
  set -- "${others[@]}"
  if [ -n "$loader" ]; then
    options+=("--lc-messages-dir=$basedir/share/mysql" "--character-sets-dir=$basedir/share/mysql/charsets"
      "--plugin-dir=$basedir/lib/mysql/plugin")
    set -- "$loader" --library-path "$libraries" --argv0 "$mysqld" "$mysqld" "$defaults" "${options[@]}" "$@"
  else
    set -- "$mysqld" "$defaults" "${options[@]}" "$@"
  fi
  "$@"
}

# Becomes a client program of the same MySQL.
run_tool() {
  local name=$1 path=''
  shift
  if [ -n "$loader" ]; then
    path=$basedir/bin/$name
    [ -x "$path" ] || die "tool $name: no such program in $basedir/bin"
    exec "$loader" --library-path "$libraries" --argv0 "$name" "$path" "$@"
  fi
  path=$(dirname "$mysqld")/$name
  [ -x "$path" ] || path=$basedir/bin/$name
  [ -x "$path" ] || path=$(command -v "$name") || die "tool $name: not beside $mysqld and not on PATH"
  exec "$path" "$@"
}

# Every server starts as a copy of this folder: initialised, with its certificates, with root for 127.0.0.1 (names
# are not resolved, so localhost alone would mean the socket), and with the machine's time zones.
make_template() {
  local name=template-2-$mysql_version
  template=$home/$name
  [ ! -d "$template" ] || return 0
  printf 'making the first data folder (once)...\n' >&2
  local data=$home/$name.new
  rm -rf "$data"
  cat >"$home/$name.sql" <<'SQL'
CREATE USER root@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
GRANT PROXY ON ''@'' TO root@'127.0.0.1' WITH GRANT OPTION;
USE mysql;
SQL
  time_zones >>"$home/$name.sql"
  run_mysqld --initialize-insecure --datadir="$data" --user="$(id -un)" --mysqlx=OFF --secure-file-priv= \
    --skip-log-bin --loose-innodb-redo-log-capacity=64M --innodb-autoextend-increment=1 \
    --innodb-data-file-path=ibdata1:5M:autoextend --innodb-buffer-pool-dump-at-shutdown=OFF \
    --innodb-flush-method=nosync --init-file="$home/$name.sql" >"$home/$name.log" 2>&1 || {
    tail -n 20 "$home/$name.log" >&2
    die "initialise $data" "the whole log: $home/$name.log"
  }
  # Each server gets its own UUID, and makes its own doublewrite files.
  rm -f "$data/auto.cnf" "$data"/*.dblwr
  mv "$data" "$template"
  rm -f "$home/$name.sql"
}

# A few named time zones, among them ones with half hours and with a history: all of them would take seconds.
time_zones() {
  local zone file
  for zone in UTC Europe/Berlin Europe/London Europe/Moscow America/New_York America/Los_Angeles America/Sao_Paulo \
    Asia/Tokyo Asia/Kolkata Asia/Kathmandu Asia/Shanghai Australia/Adelaide Australia/Lord_Howe Pacific/Apia \
    Africa/Cairo; do
    file=/usr/share/zoneinfo/$zone
    [ ! -r "$file" ] || (run_tool mysql_tzinfo_to_sql "$file" "$zone" 2>/dev/null) || true
  done
}
