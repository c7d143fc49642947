"""Settings of every test, and the servers that tests marked `grid` need."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Before numpy is imported: on matrices as small as those of tests, threads that wait for each other cost more than
# they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Machines that run tests are shared: slowness is no failure. What is drawn stays the same from run to run.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port of a real Kafka: a running one where SAFESCALE_TEST_KAFKA names it, else a container."""
    if address := os.environ.get("SAFESCALE_TEST_KAFKA"):
        yield address
        return
    from tests.support.containers import kafka_container

    with kafka_container() as address:
        yield address


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """URL of a real Elasticsearch: a running one where SAFESCALE_TEST_ELASTICSEARCH names it, else a container."""
    if url := os.environ.get("SAFESCALE_TEST_ELASTICSEARCH"):
        yield url
        return
    from tests.support.containers import elasticsearch_container

    with elasticsearch_container() as url:
        yield url
