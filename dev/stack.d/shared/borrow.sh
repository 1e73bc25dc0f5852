# For scripts that need services for a while: what they start, they stop.

# borrow SERVICE...: brings the services up and, when the script ends, stops those
# that were not up before, and removes private instances that are new since.
borrow() {
  BORROWED=() INSTANCES_BEFORE=$(list_instances)
  local service
  for service in "$@"; do
    "$REPOSITORY/dev/stack" status "$service" >/dev/null || BORROWED+=("$service")
  done
  trap give_back EXIT
  "$REPOSITORY/dev/stack" up "$@"
}

give_back() {
  local status=$? instance
  for instance in $(list_instances); do
    grep -qxF "$instance" <<<"$INSTANCES_BEFORE" || "$REPOSITORY/dev/stack" remove --instance "$instance" || true
  done
  ((${#BORROWED[@]} == 0)) || "$REPOSITORY/dev/stack" down "${BORROWED[@]}" || true
  exit "$status"
}

list_instances() { find "$STACK/instances" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null || true; echo main; }
