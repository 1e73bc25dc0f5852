# Kafka 4.3, one KRaft node that is broker and controller.
PARTS=(kafka)
STOP_SECONDS=15

service_ports() {
  echo KAFKA_PORT 23392
  echo KAFKA_CONTROLLER_PORT 23393
}

service_packages() {
  unless_command mvn maven
  unless_java
}

service_install() { fetch_jars kafka; }

service_up() {
  local java
  java=$(find_java)
  local run=("$java" -Dlog4j2.configurationFile="file:$DIR/log4j2.yaml" -cp "$JARS/*")
  write_settings >"$DIR/server.properties"
  write_logging >"$DIR/log4j2.yaml"
  [[ -f $DIR/data/meta.properties ]] || create_data "${run[@]}"
  launch kafka "${run[@]}" -Xms64m -Xmx384m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    kafka.Kafka "$DIR/server.properties"
  await kafka 60 service_ready
}

# Under another name first: a data folder with meta.properties is a whole one.
create_data() {
  local id
  # A cluster id is 16 bytes in URL-safe base64; one that starts with '-' would be
  # taken for an option.
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22)
  rm -rf "$DIR/data"
  "$@" -Xmx128m -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t "$id" \
    -c "$DIR/server.properties" >"$DIR/log/create.log" 2>&1 \
    || { tail -n 25 "$DIR/log/create.log" >&2; die "formatting the data folder failed"; }
}

# ApiVersions v0, correlation id 1. The answer: length, 1, error code 0. The port
# is open only when the broker is unfenced.
service_ready() {
  local request='\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff'
  [[ $(exchange "$KAFKA_PORT" 10 "$request" | hex) == ????????000000010000 ]]
}

service_env() { echo TIDEMARK_KAFKA_BROKERS="127.0.0.1:$KAFKA_PORT"; }

# The short broker session is what makes the restart after a kill fast: the dead
# registration is forgotten after 2 s and not 9. One partition for the inner
# topics keeps the first group and the first transaction fast.
write_settings() {
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$DIR/data
auto.create.topics.enable=false
num.partitions=1
message.max.bytes=16777216
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=2000
PROPERTIES
}

write_logging() {
  cat <<'YAML'
Configuration:
  status: "ERROR"
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: "%d %p %c: %m%n"
  Loggers:
    Root:
      level: "WARN"
      AppenderRef:
        ref: STDOUT
    Logger:
      - name: kafka.server
        level: INFO
YAML
}
