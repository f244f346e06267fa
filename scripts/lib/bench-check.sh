# shellcheck shell=bash
# Part of scripts/bench: what comparing all rows of a large table costs, beside the server's own ways to sum them up.

# What tools that compare tables by statements ask: every column of every row, in one statement.
sums_by_statement() {
  sql "$1" -e "SELECT COUNT(*), BIT_XOR(CAST(CRC32(CONCAT_WS('#', id, k, c, pad, CONCAT(ISNULL(k), ISNULL(c)))) AS UNSIGNED)) FROM g.t1"
}

bench_check() {
  local run began step
  start_primary
  workload_dump
  empty_region
  dump_stream
  for step in 'source.toml dump take --all-tables' 'region.toml bootstrap'; do
    # shellcheck disable=SC2086
    "$binary" --quiet --config "$work/"$step >"$work/output" 2>&1 || { cat "$work/output" >&2; die "$step failed"; }
  done
  : >"$work/results"
  for ((run = 1; run <= runs; run++)); do
    note "check, run $run of $runs"
    began=${EPOCHREALTIME/./}
    checksums primary >"$work/output"
    result '`CHECKSUM TABLE`, at the source' $((${EPOCHREALTIME/./} - began))
    began=${EPOCHREALTIME/./}
    sums_by_statement primary >"$work/output"
    result '`BIT_XOR(CRC32(…))`, at the source' $((${EPOCHREALTIME/./} - began))
    timed 'tablecast verify --rows, at the source' "$binary" --config "$work/source.toml" verify --rows
    timed 'tablecast verify --rows, in the region' "$binary" --config "$work/region.toml" verify --rows
  done
  printf '\n### Check of rows: %s\n\n%s\n\n' "$title" "$described"
  table_head 'way'
  rows_of_table
  "$binary" --json --config "$work/source.toml" stream ls --kind check --from 1 >"$work/checks.json"
  # Numbers may stand as texts.
  grep -o '"names":{[^}]*}' "$work/checks.json" | grep -oE '"size":"?[0-9]+' | grep -oE '[0-9]+' |
    awk -v rows=$((dump_rows * runs)) '{ bytes += $1 } END {
      printf "\n%d checks of a round took %d rows each; what names the rows takes %.1f bytes a row in the bucket, for as long as prune keeps it.\n",
        NR / '"$runs"', rows / NR, bytes / rows }'
}
