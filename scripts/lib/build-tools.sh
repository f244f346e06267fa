# shellcheck shell=bash
# Part of scripts/test, scripts/check and scripts/demo: what building Tablecast needs. The caller has `die`.

# Rust, and a C compiler with the C library's headers: aws-lc, zstd and ring-like libraries are written in C.
need_build_tools() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "no cargo here" "install Rust $(rust_version) or newer, with rustup for example"
  command -v cc >/dev/null && echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1 || install_compiler
}

rust_version() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

install_compiler() {
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "no C compiler here" "as root: apt-get install gcc libc6-dev"
    root=(sudo -n)
  fi
  command -v apt-get >/dev/null || die "no C compiler here" "install gcc and the C library's headers"
  echo "installing a C compiler (gcc, libc6-dev) through apt..." >&2
  {
    ${root[@]+"${root[@]}"} apt-get -qq update
    ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -y install --no-install-recommends gcc libc6-dev
  } >&2 || die "apt-get could not install gcc and libc6-dev"
}
