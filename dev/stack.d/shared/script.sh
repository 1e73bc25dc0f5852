# The first lines of every dev/run-* script: the repository as the working folder,
# a build that can work, and the services on loan.

LABEL=$(basename "$0")
for file in place borrow; do
  # shellcheck source=/dev/null
  source "$(dirname "${BASH_SOURCE[0]}")/$file.sh"
done
cd "$REPOSITORY" || exit
PATH=$PATH:$HOME/.cargo/bin
TARGET=${CARGO_TARGET_DIR:-target}
dev/prepare
