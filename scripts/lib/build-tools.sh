# shellcheck shell=bash
# Part of scripts/test, scripts/check and scripts/demo: what building and testing Tablecast needs. The caller has `die`.

# Rust; a C compiler with the C library's headers, because aws-lc and zstd are written in C; and the certificates
# by which cargo knows the registry.
need_build_tools() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "no cargo here" "install Rust $(rust_version) or newer, with rustup for example"
  local missing=()
  { command -v cc >/dev/null && echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1; } || missing+=(gcc libc6-dev)
  # Other systems keep them elsewhere; a Debian without the package has none.
  ! command -v apt-get >/dev/null || [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# A browser without a window, for the tests of the pages that the service shows. TABLECAST_TEST_BROWSER names another one.
need_browser() {
  local name
  [ -z "${TABLECAST_TEST_BROWSER-}" ] || return 0
  for name in chromium-headless-shell chrome-headless-shell chromium chromium-browser google-chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  # Where the small one is not offered, the whole one.
  (install_packages chromium-headless-shell) || install_packages chromium
}

# What the runbooks' own commands need, which the tests type as they stand there.
need_runbook_tools() {
  local missing=() tool
  for tool in curl zstd; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# A program that is built from the registry, once, into target/tools, where it is not on the machine.
need_cargo_tool() {
  local tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
  PATH=$tools/bin:$PATH
  ! command -v "$1" >/dev/null || return 0
  echo "building $1 (once)..." >&2
  goes_on "the build of $1" cargo install --quiet --locked --root "$tools" "$1@$2" >&2 ||
    die "$1 could not be built; see above"
}

# Runs a command that may say nothing for minutes, as a first build does, and says every half minute that it goes on.
goes_on() {
  local what=$1 began=$SECONDS ticker status=0
  shift
  # Nobody waits for the sleep: it holds none of our pipes.
  while sleep 30 >/dev/null 2>&1 </dev/null && kill -0 $$ 2>/dev/null; do
    took=$((SECONDS - began))
    echo "$what goes on ($((took / 60)) min $((took % 60)) s so far)" >&2
  done &
  ticker=$!
  "$@" || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  return "$status"
}

rust_version() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

install_packages() {
  local root=() what="not here: $*" log
  command -v apt-get >/dev/null || die "$what" "install what these packages of Debian hold"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "$what" "as root: apt-get install $*"
    root=(sudo -n)
  fi
  echo "installing $* through apt..." >&2
  log=$(mktemp)
  {
    ${root[@]+"${root[@]}"} apt-get -qq update
    ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"
  } >"$log" 2>&1 || {
    cat "$log" >&2
    die "apt-get could not install $*"
  }
  rm -f "$log"
}
