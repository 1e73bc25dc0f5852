# HBase 2.6 in one process (master, region server, ZooKeeper), and its Thrift1
# gateway beside it.
PARTS=(hbase thrift)
# Its shutdown hooks run in random order: when ZooKeeper goes first, the region
# server waits 22 s for it. A KILL loses nothing that was acknowledged.
STOP_SECONDS=6

OPENS=(
  --add-opens=java.base/java.nio=ALL-UNNAMED
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED
  --add-opens=java.base/java.lang=ALL-UNNAMED
  --add-opens=java.base/java.lang.reflect=ALL-UNNAMED
  --add-opens=java.base/java.util=ALL-UNNAMED
  --add-opens=java.base/java.util.concurrent=ALL-UNNAMED
  --add-exports=java.base/jdk.internal.misc=ALL-UNNAMED
  --add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED
  -Dorg.apache.hbase.thirdparty.io.netty.tryReflectionSetAccessible=true
)

service_ports() {
  echo HBASE_THRIFT_PORT 23390
  echo HBASE_ZOOKEEPER_PORT 23381
  echo HBASE_MASTER_PORT 23360
  echo HBASE_REGIONSERVER_PORT 23361
}

service_packages() {
  unless_command mvn maven
  unless_java
}

service_install() { fetch_jars hbase; }

service_up() {
  local java
  java=$(find_java)
  local run=("$java" "${OPENS[@]}" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -cp "$DIR/conf:$JARS/*")
  mkdir -p "$DIR/conf"
  write_settings >"$DIR/conf/hbase-site.xml"
  write_logging >"$DIR/conf/log4j.properties"
  own_pid hbase || launch hbase "${run[@]}" -Xms128m -Xmx512m org.apache.hadoop.hbase.master.HMaster start
  await hbase 90 master_ready
  # -t 0: by default the gateway closes a connection that was idle for 60 s.
  own_pid thrift || launch thrift "${run[@]}" -Xms64m -Xmx256m \
    org.apache.hadoop.hbase.thrift.ThriftServer -b 127.0.0.1 -p "$HBASE_THRIFT_PORT" --infoport -1 -t 0
  await thrift 60 service_ready
}

# The log is a new one at each start.
master_ready() { grep -q 'Master has completed initialization' "$DIR/log/hbase.log"; }

# A strict binary call of getTableNames. Byte 26 of the reply tells a list (0f)
# from an error, so this goes through the gateway to the master and back.
service_ready() {
  local reply request='\x80\x01\x00\x01\x00\x00\x00\x0dgetTableNames\x00\x00\x00\x01\x00'
  reply=$(exchange "$HBASE_THRIFT_PORT" 26 "$request" | hex)
  [[ $reply == 80010002* && ${reply:50:2} == 0f ]]
}

service_env() { echo TIDEMARK_HBASE_THRIFT="127.0.0.1:$HBASE_THRIFT_PORT"; }

# Host names, addresses and info ports together keep every socket on 127.0.0.1.
# `filesystem` and `enforce false` are what a local folder needs for its log; the
# short intervals bring the start from 13 s to 6.
write_settings() {
  local name value
  echo '<?xml version="1.0"?><configuration>'
  while read -r name value; do
    echo "<property><name>$name</name><value>$value</value></property>"
  done <<LIST
hbase.cluster.distributed false
hbase.rootdir file://$DIR/data/root
hbase.tmp.dir $DIR/data/tmp
hbase.zookeeper.property.dataDir $DIR/data/zookeeper
hbase.zookeeper.quorum 127.0.0.1
hbase.zookeeper.property.clientPort $HBASE_ZOOKEEPER_PORT
hbase.zookeeper.property.clientPortAddress 127.0.0.1
hbase.localcluster.assign.random.ports false
hbase.master.hostname 127.0.0.1
hbase.master.ipc.address 127.0.0.1
hbase.master.port $HBASE_MASTER_PORT
hbase.master.info.port -1
hbase.regionserver.hostname 127.0.0.1
hbase.regionserver.ipc.address 127.0.0.1
hbase.regionserver.port $HBASE_REGIONSERVER_PORT
hbase.regionserver.info.port -1
hbase.wal.provider filesystem
hbase.unsafe.stream.capability.enforce false
hbase.regionserver.msginterval 500
hbase.master.wait.on.regionservers.mintostart 1
hbase.master.wait.on.regionservers.maxtostart 1
hbase.master.wait.on.regionservers.interval 100
hbase.master.wait.on.regionservers.timeout 500
hbase.regionserver.handler.count 10
hbase.client.pause 100
hbase.client.retries.number 10
hbase.rpc.timeout 5000
hbase.client.operation.timeout 10000
hbase.client.meta.operation.timeout 10000
hbase.client.scanner.timeout.period 10000
LIST
  echo '</configuration>'
}

write_logging() {
  cat <<'PROPERTIES'
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
log4j.logger.org.apache.zookeeper=WARN
PROPERTIES
}
