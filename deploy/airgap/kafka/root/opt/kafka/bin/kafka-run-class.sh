#!/bin/bash
# kafka-run-class.sh CLASS ARGUMENTS...: runs a class of the broker's jars.
# The class archive counts only for the same class path, hence the sorted list of jars.
jars=(/opt/kafka/libs/*.jar)
path=$(IFS=:; echo "${jars[*]}")
archive=(-Xshare:auto)
if [ -n "${BROKER_CLASS_ARCHIVE:-}" ]; then
  archive=($BROKER_CLASS_ARCHIVE)
elif [ -f /opt/kafka/kafka.jsa ]; then
  archive=(-Xshare:auto -XX:SharedArchiveFile=/opt/kafka/kafka.jsa -Xlog:cds=off -Xlog:cds+dynamic=off)
fi
exec java ${KAFKA_HEAP_OPTS:--Xms128m -Xmx512m} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} \
  "${archive[@]}" -Djava.awt.headless=true -Dkafka.logs.dir=/opt/kafka/logs \
  -Dlog4j2.configurationFile="${BROKER_LOG4J_FILE:-/etc/kafka/docker/log4j2.yaml}" \
  ${KAFKA_JMX_OPTS:-} ${KAFKA_OPTS:-} -cp "$path" "$@"
