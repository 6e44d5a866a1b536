#!/usr/bin/env bash
# A real Flink cluster on this machine, from PyPI, without a download of a distribution:
#   deploy/flink/cluster.sh start DIR [TASK_SLOTS [REST_PORT]]   # returns when the REST port answers with all slots
#   deploy/flink/cluster.sh stop DIR
# DIR gets the distribution once (0.5 GB), logs and the pids. Needs Java 11 or 17, and `python3 -m pip`, or what the
# variable PYTHON names. The minor version must be that of the job server's jar.
set -euo pipefail
VERSION=${FLINK_VERSION:-1.19.3}
PYTHON=${PYTHON:-python3}

fail() { echo "cluster.sh: $*" >&2; exit 1; }

prepare() {
  [ -f "$home/lib/flink-dist-$VERSION.jar" ] && return
  local work; work=$(mktemp -d "$dir/.fetch.XXXXXX")
  # the jars are in a source package, which must not be built; the scripts and settings are in a wheel
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "apache-flink==$VERSION" \
    || fail "apache-flink $VERSION is not to be had for this Python"
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary apache-flink-libraries --dest "$work" "apache-flink-libraries==$VERSION" \
    || fail "apache-flink-libraries $VERSION is not to be had"
  "$PYTHON" -m zipfile -e "$work"/apache_flink-*.whl "$work/wheel"
  tar -xzf "$work"/apache[-_]flink[-_]libraries-*.tar.gz -C "$work"
  rm -rf "$home"
  mkdir -p "$home/log"
  mv "$work"/apache[-_]flink[-_]libraries-*/deps/lib "$home/lib"  # not a link: Flink would not find its jar
  mv "$work/wheel/pyflink/conf" "$home/conf"
  mv "$work/wheel/pyflink/bin" "$home/bin"
  mv "$work"/apache[-_]flink[-_]libraries-*/deps/bin/*.jar "$home/bin/"
  [ -d "$work"/apache[-_]flink[-_]libraries-*/deps/opt ] && mv "$work"/apache[-_]flink[-_]libraries-*/deps/opt "$home/opt"
  chmod +x "$home"/bin/*.sh
  rm -rf "$work"
}

start() {
  command -v java > /dev/null || fail "there is no java on the path"
  [ -f "$dir/jobmanager.pid" ] && kill -0 "$(cat "$dir/jobmanager.pid")" 2> /dev/null && fail "$dir: a cluster runs already"
  mkdir -p "$dir"
  prepare
  export FLINK_CONF_DIR="$home/conf" FLINK_LOG_DIR="$home/log"
  local common=(-D rest.address=localhost -D "rest.port=$port" -D rest.bind-address=localhost)
  # a stream must outlive a lost worker: a slow host answers late, and Flink's own way to restart goes on for good
  common+=(-D heartbeat.timeout=120000 -D pekko.ask.timeout=60s -D restart-strategy.type=exponential-delay)
  nohup "$home/bin/jobmanager.sh" start-foreground "${common[@]}" > "$home/log/jobmanager.out" 2>&1 &
  echo $! > "$dir/jobmanager.pid"
  nohup "$home/bin/taskmanager.sh" start-foreground "${common[@]}" -D "taskmanager.numberOfTaskSlots=$slots" \
    > "$home/log/taskmanager.out" 2>&1 &
  echo $! > "$dir/taskmanager.pid"
  for _ in $(seq 240); do
    answer=$(curl --silent --max-time 2 "http://localhost:$port/overview" || true)
    case "$answer" in *"\"slots-total\":$slots,"*) echo "$answer"; return ;; esac
    kill -0 "$(cat "$dir/jobmanager.pid")" 2> /dev/null || fail "the job manager has ended: $home/log/jobmanager.out"
    sleep 0.5
  done
  fail "no answer with $slots slots within two minutes: $home/log"
}

stop() {
  for name in taskmanager jobmanager; do
    [ -f "$dir/$name.pid" ] || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2> /dev/null || true
    for _ in $(seq 60); do kill -0 "$pid" 2> /dev/null || break; sleep 0.5; done
    kill -9 "$pid" 2> /dev/null || true
    rm -f "$dir/$name.pid"
  done
}

[ $# -ge 2 ] || fail "usage: cluster.sh start DIR [TASK_SLOTS [REST_PORT]] | stop DIR"
dir=$(mkdir -p "$2" && cd "$2" && pwd)
home="$dir/flink-$VERSION"
slots=${3:-2}
port=${4:-8081}
case "$1" in
  start) start ;;
  stop) stop ;;
  *) fail "unknown command $1" ;;
esac
