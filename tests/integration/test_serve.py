"""`safescale serve all` in a subprocess: health, reflection, metrics, runs through it, drain."""

import asyncio
import contextlib
import json
import re
import signal
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.support.fakes.varied_model import MODEL

from safescale.runtime.grpc.channels import connect
from safescale.runtime.metrics import METRICS


@contextlib.contextmanager
def serving(cli):
    process = cli.start("serve", "all", "--port", "0", "--metrics-port", "0")
    try:
        line = process.stdout.readline()
        found = re.match(r"gRPC on (127\.0\.0\.1:\d+), metrics on (http://127\.0\.0\.1:\d+/metrics)", line)
        assert found, line + process.stderr.read()
        yield process, found[1], found[2]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def test_a_run_through_a_server(light) -> None:
    with serving(light) as (process, address, metrics):
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            services = ProtoReflectionDescriptorDatabase(channel).get_services()
            names = [f"safescale.{name.lower()}.v1.{name}Service"
                     for name in ("Inference", "Retrieval", "Orchestration", "Scoring")]  # fmt: skip
            assert set(names) <= set(services)
            for name in ("", *names):
                status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
                assert status == health_pb2.HealthCheckResponse.SERVING
        # The command finds the server by the data folder; no second process opens the records.
        done = light("run", light.spec(questions={"limit": 2}), "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
        text = scrape(metrics)
        for condition in ("zero_shot", "evidence_clean"):
            labels = f'condition="{condition}",model="{MODEL}",outcome="ok"'
            assert re.search(rf"safescale_model_latency_seconds_count{{{labels}}} 2\.0", text), text
        assert 'le="600.0"' in text
        declared = {metric.name.removesuffix("_total") for metric in METRICS}
        exposed = set(re.findall(r"^# TYPE (safescale_\w+) (?:counter|gauge|histogram)", text, flags=re.MULTILINE))
        exposed = {name.removesuffix("_total").removesuffix("_created") for name in exposed}
        assert exposed == declared
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert not (light.folder / "data" / "address").exists()


def test_a_second_process_on_the_same_folder_is_refused(cli) -> None:
    with serving(cli):
        done = cli("serve", "all", "--port", "0", "--metrics-port", "0")
        assert done.returncode == 2
        assert "in use by another safescale process" in done.stderr


def test_cancel_and_continue_and_unfinished_runs_are_taken_up(light, model) -> None:
    spec = light.spec(questions={"limit": 5})
    # So slow that the run goes on while commands start.
    model.seconds = 0.3
    with serving(light):
        runner = light.start("run", spec, "--no-report")
        runner.stdout.readline()
        done = light("runs", "cancel", "latest")
        assert done.returncode == 0, done.stderr
        out, err = runner.communicate(timeout=60)
        assert runner.returncode == 1, out + err
        assert "was cancelled; the same command continues it" in out
        again = light("runs", "cancel", "latest")
        assert (again.returncode, "is not running: it is cancelled" in again.stderr) == (2, True)
        runner = light.start("run", spec, "--no-report")
        assert "Continuing run" in runner.stdout.readline()
        # Ctrl-C leaves the server's run alone.
        runner.send_signal(signal.SIGINT)
        _, err = runner.communicate(timeout=60)
        assert runner.returncode == 130
        assert "goes on at the server" in err
    model.seconds = 0.0
    with serving(light):
        done = light("run", spec, "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
    done = light("export", "latest", "--format", "jsonl")
    assert done.returncode == 0
    lines = (light.folder / "export" / "verdicts.jsonl").read_text().splitlines()
    keys = {(v["cell"]["condition"], v["cell"]["question_id"]) for v in map(json.loads, lines)}
    assert len(keys) == len(lines) == 10


async def test_health_is_not_serving_from_the_first_moment_of_a_stop(cli) -> None:
    with serving(cli) as (process, address, _):
        channel = connect(address)
        stub = health_pb2_grpc.HealthStub(channel)
        states = []

        async def watch() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for response in stub.Watch(health_pb2.HealthCheckRequest()):
                    states.append(response.status)  # noqa: PERF401 (what came before the end counts)

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 30)
        await channel.close()
    serving_state = health_pb2.HealthCheckResponse
    assert states == [serving_state.SERVING, serving_state.NOT_SERVING]
