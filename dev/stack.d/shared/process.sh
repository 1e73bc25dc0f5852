# Starting, finding and ending the processes of the current service.
#
# A service has one or more parts (PARTS, in the order of their start), each one
# process with $DIR/PART.pid and $DIR/log/PART.log. A pid file holds the pid and
# the process's birth: a pid that was given to somebody else never matches, so a
# stale file is harmless and nothing of others is ever ended.

# birth PID: what tells this process from any other that had or will have its
# pid; fails when it is gone. A zombie counts as gone: an orphan waits for pid 1.
birth() {
  local stat fields
  { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] || return 1
  printf '%s/%s' "${fields[19]}" "$(</proc/sys/kernel/random/boot_id)"
}

# own_pid PART: sets PID, if the part runs and is ours.
own_pid() {
  local born
  { read -r PID born <"$DIR/$1.pid"; } 2>/dev/null || return 1
  [[ -n $born && $(birth "$PID") == "$born" ]]
}

every_part_runs() {
  local part
  for part in "${PARTS[@]}"; do own_pid "$part" || return 1; done
}

some_part_runs() {
  local part
  for part in "${PARTS[@]}"; do if own_pid "$part"; then return 0; fi; done
  return 1
}

part_list() {
  local part line=''
  for part in "${PARTS[@]}"; do
    own_pid "$part" || continue
    line+="$part pid $PID, $(awk '/^VmRSS/ { printf "%d MB", $2 / 1024 }' "/proc/$PID/status" 2>/dev/null || true)  "
  done
  printf '%s' "${line%  }"
}

# become COMMAND...: turns the calling subshell into a server of its own session
# that holds no open file of ours. An inherited lock would never be given back.
become() {
  local fd
  ulimit -Sn "$(open_files_limit)"
  for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    ((fd <= 2)) || eval "exec $fd>&-"
  done
  exec setsid "$@"
}

# Servers size tables by this limit, and some machines allow a thousand million.
open_files_limit() {
  local hard
  hard=$(ulimit -Hn)
  if [[ $hard == unlimited ]] || ((hard > 65536)); then hard=65536; fi
  printf '%s' "$hard"
}

# launch PART COMMAND...: the log of the run before stays as PART.log.1.
launch() {
  local part=$1 log=$DIR/log/$1.log
  shift
  [[ ! -f $log ]] || mv -f "$log" "$log.1"
  become "$@" </dev/null >"$log" 2>&1 &
  printf '%s %s\n' $! "$(birth $!)" >"$DIR/$part.pid"
}

# await PART SECONDS COMMAND...: until the command succeeds, at most so long, and
# no longer than the part lives.
await() {
  local part=$1 limit=$2 deadline
  deadline=$(deadline_in "$2")
  shift 2
  until "$@" >/dev/null 2>&1; do
    own_pid "$part" || die_with_log "$part" "ended before it was ready"
    (($(now_us) < deadline)) || die_with_log "$part" "is not ready after $limit s"
    sleep 0.1
  done
}

await_service() { await "${PARTS[-1]}" 60 service_ready; }

die_with_log() {
  { printf '%s: %s %s; the end of %s:\n' "$LABEL" "$1" "$2" "$DIR/log/$1.log"
    tail -n 25 "$DIR/log/$1.log"; } >&2
  exit 1
}

# Last started, first stopped.
stop_parts() {
  local i
  for ((i = ${#PARTS[@]} - 1; i >= 0; i--)); do stop_part "${PARTS[i]}"; done
}

# TERM, and KILL for what is still there after STOP_SECONDS. A frozen process
# takes no TERM, so it is woken up.
stop_part() {
  local part=$1 how=stopped began
  began=$(now_us)
  if own_pid "$part"; then
    kill -TERM "$PID" || true
    kill -CONT "$PID" 2>/dev/null || true
    if ! gone_within "$STOP_SECONDS" "$part"; then
      how="killed"
      kill -KILL "$PID" || true
      gone_within 10 "$part" || die "$part (pid $PID) does not end"
    fi
    say "$part $how in $(seconds_since "$began")"
  fi
  rm -f "$DIR/$part.pid"
}

gone_within() {
  local deadline
  deadline=$(deadline_in "$1")
  while own_pid "$2"; do
    (($(now_us) < deadline)) || return 1
    sleep 0.05
  done
}

# exchange PORT LIMIT REQUEST: sends a printf format, prints the first LIMIT bytes
# of the answer.
exchange() {
  # shellcheck disable=SC2016  # the inner shell expands these
  timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "$2" >&3 && head -c "$1" <&3' "$@"
}

hex() { od -An -v -tx1 | tr -d ' \n'; }
