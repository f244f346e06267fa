# shellcheck shell=bash
# Part of scripts/test: the program of the commit before this one, for the tests of upgrades (tests/upgrade). The caller has
# `die` and `goes_on`.

# Builds it into target/earlier, unless it is there. Ends with 1 where there is no such commit, as in a copy without history, and
# says why.
need_earlier_version() {
  local target dir rev why lock
  target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
  dir=$target/earlier
  # The folder may be somebody else's, as on a machine of CI.
  local git=(git -c "safe.directory=$PWD")
  if ! why=$("${git[@]}" rev-parse --verify "${TABLECAST_EARLIER:-HEAD~1}^{commit}" 2>&1); then
    [ -z "${TABLECAST_EARLIER-}" ] || die "TABLECAST_EARLIER names no commit of this repository: $why"
    echo "The commit before this one is not to be had here: $why" >&2
    return 1
  fi
  rev=$why
  mkdir -p "$dir"
  exec {lock}>"$dir/lock"
  flock "$lock"
  if [ "$(cat "$dir/commit" 2>/dev/null)" != "$rev" ]; then
    # What both depend on is built once, and the program goes by another name, for tests may be running from this version's. A
    # folder for each commit, and files as new as they are here: what is there of another commit is not taken for built.
    rm -rf "$dir/commit" "$dir"/tree-*
    {
      mkdir "$dir/tree-$rev" &&
        "${git[@]}" archive "$rev" | tar -x -m -C "$dir/tree-$rev" &&
        sed -i '/^default-run/d' "$dir/tree-$rev/Cargo.toml" &&
        printf '\n[[bin]]\nname = "tablecast-earlier"\npath = "src/main.rs"\n' >>"$dir/tree-$rev/Cargo.toml" &&
        (cd "$dir/tree-$rev" &&
          cargo build --quiet --locked --features failpoints --bin tablecast-earlier --target-dir "$target") &&
        cp "$target/debug/tablecast-earlier" "$dir/tablecast.new" &&
        mv "$dir/tablecast.new" "$dir/tablecast" &&
        echo "$rev" > "$dir/commit"
    } || die "the version before (${rev:0:12}) could not be built" "TABLECAST_EARLIER names another commit"
  fi
  exec {lock}>&-
}
