# shellcheck shell=bash
# Part of scripts/bench: the most memory that each command holds at once, on what is large in some way.

workload_memory() {
  title='1 transaction of 1 GiB'
  note "writing: $title"
  make_tables
  sql primary -e 'CREATE TABLE g.big (id INT PRIMARY KEY, body VARBINARY(2000) NOT NULL)'
  copy_base
  sql primary g -e "SET SESSION cte_max_recursion_depth = 1100000; INSERT INTO g.big
    WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 1050000)
    SELECT n, REPEAT(UNHEX(SHA2(n, 256)), 32) FROM s"
  set_of_tables='g.t1 g.t2 g.t3 g.t4 g.big'
  tables='g.big' unit='MiB' mini_filter=()
  end_workload
}

workload_rows() {
  title='rows of 32 MiB'
  note "writing: $title"
  make_tables
  sql primary -e 'CREATE TABLE g.big (id INT PRIMARY KEY, body LONGBLOB NOT NULL)'
  copy_base
  local n
  for n in 1 2 3 4; do
    sql primary g -e "INSERT INTO g.big SELECT $n, REPEAT(UNHEX(SHA2($n, 256)), 1 << 20)"
  done
  set_of_tables='g.t1 g.t2 g.t3 g.t4 g.big'
  tables='g.big' unit='MiB' mini_filter=()
  end_workload
}

workload_tables() {
  title='2,000 tables, 20,000 transactions'
  note "writing: $title"
  make_tables
  local n
  for ((n = 0; n < 2000; n++)); do
    echo "CREATE TABLE g.n$n (id INT PRIMARY KEY, k INT, c VARCHAR(100), d DATETIME, e DECIMAL(10, 2), KEY (k));"
  done | sql primary
  copy_base
  for ((n = 0; n < 20000; n++)); do
    echo "INSERT INTO g.n$((n % 2000)) VALUES ($n, $n, SHA2($n, 256), NOW(), 1.5);"
  done | sql primary
  set_of_tables='g.*'
  tables='g.n1, g.n1999' unit='transactions' mini_filter=()
  end_workload
}

memory_head() { printf '| what | on | seconds | peak memory |\n|---|---|---:|---:|\n'; }

# memory_rows ON: what has been noted, one row each.
memory_rows() {
  local name us kib
  while IFS=$'\t' read -r name us kib; do
    awk -v name="$name" -v on="$1" -v us="$us" -v kib="$kib" \
      'BEGIN { printf "| %s | %s | %.2f | %.0f MiB |\n", name, on, us / 1e6, kib / 1024 }'
  done <"$work/results"
  : >"$work/results"
}

# What only reads the bucket: a source's config is enough.
memory_of() {
  local name=$1
  shift
  timed "tablecast $name" "$binary" --quiet --config "$work/source.toml" "$@"
}

bench_memory() {
  local workload
  printf '\n### Memory\n\n'
  memory_head
  : >"$work/results"
  for workload in memory rows tables; do
    [ -z "$only" ] || [ "$only" = "$workload" ] || continue
    start_primary
    "workload_$workload"
    way_upload gzip
    way_upload zstd
    memory_of 'verify' verify
    fresh_region
    way_apply
    check_equal
    memory_rows "$title, $((binlog_bytes >> 20)) MiB of binlog"
  done
  [ -n "$only" ] && [ "$only" != dump ] || memory_dump
  [ -n "$only" ] && [ "$only" != index ] || memory_index
}

memory_dump() {
  start_primary
  workload_dump
  # The region first: the stream's config names its port.
  empty_region
  dump_stream
  timed 'tablecast dump take' "$binary" --quiet --config "$work/source.toml" dump take --all-tables
  memory_of 'verify' verify
  timed 'tablecast bootstrap' "$binary" --quiet --config "$work/region.toml" bootstrap
  check_equal
  memory_rows "$title"
}

memory_index() {
  note 'an index of 1,000,000 entries'
  mkdir "$work/index"
  TABLECAST_BENCH_STORE=$work/index cargo bench --locked --quiet --bench index >/dev/null
  printf 'role = "source"\nstream = "bench"\nstore = "file://%s"\n[mysql]\nhost = "127.0.0.1"\nuser = "nobody"\n' "$work/index" \
    >"$work/source.toml"
  memory_of 'stream show' stream show
  memory_of 'stream ls --from 1' stream ls --from 1
  memory_of 'stream ls --from 1 --json' --json stream ls --from 1
  memory_of 'stream prune --dry-run' stream prune --dry-run --no-reports
  memory_rows 'a stream of 1,000,000 entries'
}
