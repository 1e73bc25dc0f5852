# Where things are kept, how a message looks, how time is counted.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
STACK=$(realpath -m "${TIDEMARK_STACK_DIR:-$REPOSITORY/.stack}")
LIB=$STACK/lib

say() { printf '%s: %s\n' "$LABEL" "$*"; }
die() { printf '%s: %s\n' "$LABEL" "$*" >&2; exit 1; }

# Whole microseconds; bash has no fractions, and writes the locale's separator.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
deadline_in() { printf '%s' $((${EPOCHREALTIME/[.,]/} + $1 * 1000000)); }
seconds_since() {
  local tenths=$((($(now_us) - $1) / 100000))
  printf '%s.%s s' $((tenths / 10)) $((tenths % 10))
}
