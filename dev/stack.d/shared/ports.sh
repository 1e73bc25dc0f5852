# Which ports the current service listens on.
#
# service_ports prints `NAME DEFAULT` lines; here each NAME becomes a variable.
# The main instance takes TIDEMARK_NAME or the default. A private instance takes
# free ports once and keeps them in $DIR/ports. What runs is always found by
# $DIR/ports, whatever the environment says by now.

# A range below the one from which the kernel serves outgoing connections.
FREE_PORTS_FROM=24000
FREE_PORTS=6000

recall_ports() {
  local name port
  while IFS='=' read -r name port; do printf -v "$name" %s "$port"; done <"$DIR/ports"
}

# The ports that the service has or, on the main instance, would get.
expect_ports() {
  if [[ $INSTANCE != "$MAIN" ]]; then
    [[ -f $DIR/ports ]] && recall_ports
    return
  fi
  local name default override
  while read -r name default; do
    override=TIDEMARK_$name
    printf -v "$name" %s "${!override:-$default}"
  done < <(service_ports)
}

# Fixes the ports before a start, and refuses those that somebody listens on.
settle_ports() {
  local name _
  expect_ports || choose_ports
  while read -r name _; do
    wait_port_free "${!name}" \
      || die "port ${!name} is taken by another program; choose one with TIDEMARK_$name"
  done < <(service_ports)
  save_ports
}

save_ports() {
  local name _
  while read -r name _; do printf '%s=%s\n' "$name" "${!name}"; done < <(service_ports) >"$DIR/ports"
}

# One at a time, and not a port that an instance holds which is down just now.
choose_ports() {
  local name _ held chooser
  exec {chooser}>"$STACK/locks/ports"
  flock -w 60 "$chooser"
  held=$(cat "$STACK"/instances/*/*/ports 2>/dev/null | cut -d= -f2 || true)
  while read -r name _; do
    until printf -v "$name" %s $((FREE_PORTS_FROM + RANDOM % FREE_PORTS)) \
      && ! grep -qx "${!name}" <<<"$held" && ! listening "${!name}"; do :; done
    held+=$'\n'${!name}
  done < <(service_ports)
  save_ports
  exec {chooser}>&-
}

# On main a running service is not moved by a changed environment.
refuse_moved_ports() {
  [[ $INSTANCE == "$MAIN" ]] || return 0
  local name _ override
  while read -r name _; do
    override=TIDEMARK_$name
    [[ ${!override:-${!name}} == "${!name}" ]] \
      || die "runs with $name ${!name}, not ${!override}; stop it first: dev/stack down $SERVICE"
  done < <(service_ports)
}

listening() {
  local port
  printf -v port %04X "$1"
  grep -qsE "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6
}

# A killed server's socket may outlive it for a moment.
wait_port_free() {
  local deadline
  deadline=$(deadline_in 2)
  while listening "$1"; do
    (($(now_us) < deadline)) || return 1
    sleep 0.1
  done
}

port_list() {
  local name _ line=port
  while read -r name _; do line+=" ${!name}"; done < <(service_ports)
  printf '%s' "$line"
}
