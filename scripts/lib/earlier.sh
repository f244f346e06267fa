# shellcheck shell=bash
# Part of scripts/test: the program of the commit before this one, for the tests of upgrades (tests/upgrade). The caller has
# `die` and `goes_on`.

# Builds it into target/earlier, unless it is there. Ends with 1 where there is no such commit, as in a copy without history.
need_earlier_version() {
  local target rev
  target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
  local dir=$target/earlier
  # The folder may be somebody else's, as on a machine of CI.
  local git=(git -c "safe.directory=$PWD")
  rev=$("${git[@]}" rev-parse --verify --quiet "${TABLECAST_EARLIER:-HEAD~1}^{commit}" 2>/dev/null) || return 1
  [ "$(cat "$dir/commit" 2>/dev/null)" != "$rev" ] || return 0
  rm -rf "$dir/tree"
  # Beside this version's own: what they depend on is built once.
  {
    mkdir -p "$dir/tree" &&
      "${git[@]}" archive "$rev" | tar -x -C "$dir/tree" &&
      (cd "$dir/tree" && CARGO_TARGET_DIR=$target cargo build --quiet --locked --features failpoints --bin tablecast) &&
      cp "$target/debug/tablecast" "$dir/tablecast.new" &&
      mv "$dir/tablecast.new" "$dir/tablecast" &&
      echo "$rev" > "$dir/commit"
  } || die "the version before (${rev:0:12}) could not be built" "TABLECAST_EARLIER names another commit"
}
