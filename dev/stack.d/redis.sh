# Redis 7, as a cache: nothing is written to disk.
PARTS=(redis)
STOP_SECONDS=10

service_ports() { echo REDIS_PORT 23379; }

service_packages() { unless_command redis-check-rdb redis-tools; }

# Debian's redis-server is redis-check-rdb under another name. The package of that
# name would add a system service, so the name is given here.
service_install() {
  mkdir -p "$LIB/redis"
  ln -sfn "$(command -v redis-check-rdb)" "$LIB/redis/redis-server"
}

service_up() {
  mkdir -p "$DIR/data"
  launch redis "$LIB/redis/redis-server" --bind 127.0.0.1 --port "$REDIS_PORT" --protected-mode yes \
    --save '' --appendonly no --dir "$DIR/data" --daemonize no
  await redis 10 service_ready
}

service_ready() { [[ $(exchange "$REDIS_PORT" 5 'PING\r\n') == +PONG ]]; }

service_env() {
  echo TIDEMARK_REDIS_ADDRESS="127.0.0.1:$REDIS_PORT"
  echo TIDEMARK_REDIS_URL="redis://127.0.0.1:$REDIS_PORT"
}
