# ClickHouse 18.16, the server that Debian has.
PARTS=(clickhouse)
STOP_SECONDS=15

service_ports() {
  echo CLICKHOUSE_PORT 23323
  echo CLICKHOUSE_TCP_PORT 23300
  echo CLICKHOUSE_INTERSERVER_PORT 23309
}

service_packages() { [[ -n $(dpkg-query -Wf '${Version}' clickhouse-common 2>/dev/null) ]] || echo clickhouse-common; }

# The package clickhouse-server would add a user and a system service: only its
# program is taken out. The libraries come with clickhouse-common.
service_install() {
  [[ ! -x $LIB/clickhouse/usr/sbin/clickhouse-server ]] || return 0
  say "fetching the server"
  (
    flock -w 900 9
    rm -rf "$LIB/clickhouse.new"
    mkdir -p "$LIB/clickhouse.new"
    cd "$LIB/clickhouse.new" || exit
    apt-get -q download clickhouse-server </dev/null >"$LIB/clickhouse.log" 2>&1 \
      || { tail -n 25 "$LIB/clickhouse.log" >&2; die "apt-get download failed"; }
    dpkg-deb -x clickhouse-server_*.deb .
    rm -rf clickhouse-server_*.deb "$LIB/clickhouse"
    mv "$LIB/clickhouse.new" "$LIB/clickhouse"
  ) 9>"$STACK/locks/apt"
}

service_up() {
  mkdir -p "$DIR"/{data,tmp,formats}
  write_config >"$DIR/config.xml"
  write_users >"$DIR/users.xml"
  launch clickhouse "$LIB/clickhouse/usr/sbin/clickhouse-server" --config-file="$DIR/config.xml"
  await clickhouse 30 service_ready
}

service_ready() {
  [[ $(exchange "$CLICKHOUSE_PORT" 12 'GET /?query=SELECT%%201 HTTP/1.0\r\n\r\n') == HTTP/1.?" 200" ]]
}

service_env() {
  echo TIDEMARK_CLICKHOUSE_URL="http://127.0.0.1:$CLICKHOUSE_PORT"
  echo TIDEMARK_CLICKHOUSE_USER=default
  echo TIDEMARK_CLICKHOUSE_PASSWORD=
}

write_config() {
  cat <<XML
<?xml version="1.0"?>
<yandex>
  <logger><level>information</level><console>1</console></logger>
  <http_port>$CLICKHOUSE_PORT</http_port>
  <tcp_port>$CLICKHOUSE_TCP_PORT</tcp_port>
  <interserver_http_port>$CLICKHOUSE_INTERSERVER_PORT</interserver_http_port>
  <interserver_http_host>127.0.0.1</interserver_http_host>
  <listen_host>127.0.0.1</listen_host>
  <max_connections>512</max_connections>
  <keep_alive_timeout>10</keep_alive_timeout>
  <max_concurrent_queries>100</max_concurrent_queries>
  <uncompressed_cache_size>67108864</uncompressed_cache_size>
  <mark_cache_size>134217728</mark_cache_size>
  <path>$DIR/data/</path>
  <tmp_path>$DIR/tmp/</tmp_path>
  <format_schema_path>$DIR/formats/</format_schema_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
</yandex>
XML
}

write_users() {
  cat <<'XML'
<?xml version="1.0"?>
<yandex>
  <profiles><default><max_memory_usage>2000000000</max_memory_usage></default></profiles>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
  <quotas>
    <default>
      <interval>
        <duration>3600</duration>
        <queries>0</queries><errors>0</errors><result_rows>0</result_rows>
        <read_rows>0</read_rows><execution_time>0</execution_time>
      </interval>
    </default>
  </quotas>
</yandex>
XML
}
