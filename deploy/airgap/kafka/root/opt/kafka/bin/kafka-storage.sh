#!/bin/bash
export BROKER_LOG4J_FILE=/etc/kafka/docker/tools-log4j2.yaml KAFKA_HEAP_OPTS=-Xmx128m
exec /opt/kafka/bin/kafka-run-class.sh kafka.tools.StorageTool "$@"
