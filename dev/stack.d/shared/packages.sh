# Installing what the services need: Debian packages for tools and libraries, and
# Java archives into $LIB. Nothing here starts or changes a system service.

DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# install_packages SERVICE...: the packages of all of them in one go.
install_packages() {
  local service missing=()
  mapfile -t missing < <(for service in "$@"; do (
    enter "$service"
    service_packages
  ); done | sort -u)
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
}

# unless_command COMMAND PACKAGE: names the package when the command is not there.
unless_command() { command -v "$1" >/dev/null || echo "$2"; }
unless_library() { [[ $(/sbin/ldconfig -p) == *"$1"* ]] || echo "$2"; }
unless_java() { find_java >/dev/null || echo openjdk-17-jre-headless; }

apt_install() {
  mkdir -p "$LIB" "$STACK/locks"
  command -v apt-get >/dev/null || die "please install: $* (only apt is known here)"
  say "installing $*"
  (
    flock -w 900 9
    keep_services_off
    apt_get update
    apt_get install -y --no-install-recommends "$@"
  ) 9>"$STACK/locks/apt"
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" \
    </dev/null >"$LIB/apt.log" 2>&1 || { tail -n 25 "$LIB/apt.log" >&2; die "apt-get $1 failed"; }
}

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi; }

# Debian's own way to say "start nothing while packages are installed". Removed
# after, unless it was there before.
keep_services_off() {
  local policy=/usr/sbin/policy-rc.d
  [[ ! -e $policy ]] || return 0
  trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

# Java 17 is what the recipes of Kafka and HBase were proved on; much newer ones
# have lost classes that HBase needs.
find_java() {
  local java
  for java in /usr/lib/jvm/java-17-*/bin/java "${JAVA_HOME:-/none}/bin/java" "$(command -v java || true)"; do
    [[ -x $java ]] || continue
    case $("$java" -version 2>&1 | grep -m 1 version) in
      *'"17.'* | *'"21.'*) printf '%s' "$java"; return ;;
    esac
  done
  return 1
}

# fetch_jars NAME: sets JARS to a folder with what jars/NAME.xml asks for. The
# folder's name carries the file's hash: another content is another folder, and a
# broken download leaves none.
fetch_jars() {
  local pom=$HERE/stack.d/jars/$1.xml
  JARS=$LIB/$1-$(sha256sum <"$pom" | cut -c1-8)
  [[ ! -d $JARS ]] || return 0
  mkdir -p "$LIB"
  (
    # Maven's local repository is not made for two writers.
    flock -w 900 9
    [[ ! -d $JARS ]] || exit 0
    say "fetching the jars"
    maven "$pom" || maven "$pom" || { tail -n 25 "$JARS.log" >&2; die "maven failed"; }
    mv "$JARS.new" "$JARS"
  ) 9>"$STACK/locks/maven"
}

maven() {
  rm -rf "$JARS.new"
  mvn -B -q -f "$1" "$DEPENDENCY_PLUGIN:copy-dependencies" -DincludeScope=runtime \
    -DoutputDirectory="$JARS.new" </dev/null >"$JARS.log" 2>&1
}
