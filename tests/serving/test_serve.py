"""``ecg-hf serve`` as others meet it: a process, a port, uploads good and bad."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4B
from transformers import pipeline

import ecg_hf
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
from tests.cli.conftest import run_command
from tests.serving.server import BOUNDARY, Server, multipart

HIDDEN = "Zwiebelthaler"
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The package's own classifier, with the limits that it has."""
    server = Server(tmp_path_factory.mktemp("server"), "--port", 0, "--device", "cpu", "--timeout", 200)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, bytes]]:
    """The sample record, a WFDB record of two files."""
    header = ecg_hf.sample_record()
    return [(path.name, path.read_bytes()) for path in (header, header.with_suffix(".dat"))]


@pytest.fixture(scope="module")
def xml(recordings: Path) -> tuple[str, bytes]:
    """One file of a hospital's."""
    path = recordings / "clinical" / "schiller" / "sema_rest.xml"
    return path.name, path.read_bytes()


def npy(signal: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, signal)
    return buffer.getvalue()


def test_answers_are_those_of_predict(server: Server, sample: list[tuple[str, bytes]]):
    reply = server.post("/v1/predict", sample)
    assert reply.status == 200, reply.text
    outcome = run_command("predict", ecg_hf.sample_record(), "--json", "--device", "cpu")
    (expected,) = json.loads(outcome.stdout)
    answer = reply.json
    assert answer.pop("record") == "02940_lr.hea"
    expected.pop("record")
    assert list(answer) == list(expected)
    for one, other in zip(answer["findings"], expected["findings"], strict=True):
        assert one.pop("probability") == pytest.approx(other.pop("probability"), abs=1e-5)
    assert [near.pop("similarity") for near in answer["nearest"]] == pytest.approx(
        [near.pop("similarity") for near in expected["nearest"]], abs=1e-5
    )
    assert answer == expected


def test_embeddings_are_those_of_python(server: Server, sample: list[tuple[str, bytes]]):
    reply = server.post("/v1/embed", sample)
    assert reply.status == 200, reply.text
    classify = pipeline("ecg-classification", model=str(ecg_hf.pretrained(DEFAULT_CLASSIFIER)))
    inputs = classify.feature_extractor(ecg_hf.read_record(ecg_hf.sample_record()), return_tensors="pt")
    with torch.inference_mode():
        wanted = classify.model.base_model(**inputs).pooler_output[0].numpy()
    np.testing.assert_allclose(reply.json["embedding"], wanted, atol=1e-4)
    assert reply.json["model"] == DEFAULT_CLASSIFIER


@pytest.mark.parametrize(("version", "kind"), [("R5", Bundle), ("R4B", BundleR4B)])
def test_fhir_is_valid(server: Server, xml: tuple[str, bytes], version: str, kind: type):
    reply = server.post("/v1/fhir", [xml], version=version)
    assert reply.status == 200, reply.text
    assert reply.kind.startswith("application/fhir+json")
    kind.model_validate_json(reply.text)
    assert [one["resource"]["resourceType"] for one in reply.json["entry"]] == [
        "Observation",
        "DiagnosticReport",
    ]


def test_files_that_do_not_say_are_told(server: Server):
    content = npy(ecg_hf.read_record(ecg_hf.sample_record()).signal[:1])
    told = {"sampling_rate": "100", "units": "mV", "lead_names": "I"}
    reply = server.post("/v1/embed", [("one.npy", content)], **told)
    assert reply.status == 200, reply.text
    assert reply.json["lead_names"] == ["I"]
    assert "sampling_rate" in server.post("/v1/embed", [("one.npy", content)]).json["error"]


BAD = {
    "empty": ([("x.xml", b"")], {}),
    "noise": ([("x.bin", bytes(range(256)) * 40)], {}),
    "marked": ([("x.xml", f"<AnnotatedECG><name>{HIDDEN}</name></AnnotatedECG>".encode())], {}),
    "header alone": ([("a.hea", b"a 1 100 1000\na.dat 16 1000 16 0 0 0 0 I\n")], {}),
    "header of elsewhere": (
        [("a.hea", b"a 1 100 1000\n../../etc/passwd 16 1000 16 0 0 0 0 I\n"), ("b.dat", b"\0\0" * 1000)],
        {},
    ),
    "names that leave": ([("a.hea", b"a 1 100\n"), ("..", b"")], {}),
    "names twice": ([("a.hea", b"a 1 100\n"), ("a.hea", b"a 1 100\n")], {}),
    "no header": ([("a.dat", b"\0"), ("b.dat", b"\0")], {}),
    "too many": ([(f"{i}.dat", b"\0") for i in range(40)], {}),
    "rate": ([("x.npy", npy(np.zeros((1, 9))))], {"sampling_rate": "nan", "units": "mV", "lead_names": "I"}),
    "rate that is no number": ([("x.npy", npy(np.zeros((1, 9))))], {"sampling_rate": HIDDEN}),
    "pickle": ([("x.npy", npy(np.array([{"a": 1}], dtype=object)))], {}),
    "too long": (
        [("x.npy", npy(np.zeros((1, 9_000_000), np.int8)))],
        {"sampling_rate": "500", "units": "mV", "lead_names": "I"},
    ),
}


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/embed", "/v1/fhir"])
def test_bad_uploads_are_errors_of_one_line(server: Server, path: str):
    for name, (files, fields) in BAD.items():
        reply = server.post(path, files, **fields)
        assert reply.status == 422, (name, reply.text)
        error = reply.json["error"]
        assert error, name
        for forbidden in (HIDDEN, "/tmp", "Traceback", "site-packages", str(Path.home()), "\n"):
            assert forbidden not in reply.json["error"], (name, error)
    assert HIDDEN not in server.log
    assert "Traceback" not in server.log


def test_requests_that_are_none(server: Server):
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    whole = multipart([("x.xml", b"<a/>")], {})
    for method, path, body, content_type, status in (
        ("GET", "/nothing", None, "", 404),
        ("GET", "/v1/predict", None, "", 405),
        ("POST", "/v1/predict", b"{}", "application/json", 422),
        ("POST", "/v1/predict", b"\0\xff" * 50, kind, 400),
        ("POST", "/v1/predict", multipart([("x.xml", b"<a/>")], {}, name="other"), kind, 422),
        ("POST", "/v1/predict", whole, "multipart/form-data", 400),
        ("POST", "/v1/predict", b"0" * 20_000_001, "application/octet-stream", 413),
    ):
        try:
            reply = server.ask(method, path, body, **({"Content-Type": content_type} if body else {}))
        except (BrokenPipeError, ConnectionResetError):
            assert status == 413  # the server need not listen to the end of it
            continue
        assert reply.status == status, (method, path, reply.text)
        assert list(reply.json) == ["error"]


def test_names_in_files_and_of_files_stay_out_of_the_log(server: Server, sample: list[tuple[str, bytes]]):
    header = sample[0][1] + f"# Name: {HIDDEN}\n".encode()
    for path in ("/v1/predict", "/v1/embed", "/v1/fhir"):
        reply = server.post(path, [(sample[0][0], header), sample[1]])
        assert reply.status == 200
        assert HIDDEN not in reply.text
        # The name of a file is its sender's: answered to nobody else.
        server.post(path, [(f"/home/{HIDDEN}/{HIDDEN}.xml", b"<a/>")])
    assert HIDDEN not in server.post("/v1/fhir", [(f"{HIDDEN}.hea", header), sample[1]]).text
    assert HIDDEN not in server.log
    assert HIDDEN not in server.get("/metrics").text


def test_those_who_run_it_see_what_happens(server: Server):
    assert server.get("/health").json == {"status": "ok", "model": DEFAULT_CLASSIFIER}
    assert server.get("/health/" + HIDDEN).status == 404
    metrics = server.get("/metrics").text
    assert 'ecg_hf_requests_total{path="/health",status="200"}' in metrics
    assert HIDDEN not in metrics
    assert "ecg_hf_requests_in_flight 0" in metrics
    assert server.get("/docs").kind.startswith("text/html")
    paths = server.get("/openapi.json").json["paths"]
    assert {"/v1/predict", "/v1/embed", "/v1/fhir", "/health", "/metrics"} == set(paths)


def test_requests_at_the_same_time_share_batches(server: Server, sample: list[tuple[str, bytes]]):
    def count(name: str) -> int:
        lines = server.get("/metrics").text.splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    batches, recordings = count("ecg_hf_batches_total"), count("ecg_hf_recordings_total")
    uploads = [sample, [("x.xml", b"<broken/>")]] * 8
    with ThreadPoolExecutor(len(uploads)) as clients:
        replies = list(clients.map(lambda files: server.post("/v1/embed", files), uploads))
    assert [reply.status for reply in replies] == [200, 422] * 8
    embeddings = [reply.json["embedding"] for reply in replies[::2]]
    np.testing.assert_allclose(embeddings, embeddings[:1] * 8, atol=1e-4)
    assert count("ecg_hf_recordings_total") - recordings == len(uploads)
    assert count("ecg_hf_batches_total") - batches < len(uploads)


@pytest.mark.slow
def test_limits_and_token(tmp_path: Path, sample: list[tuple[str, bytes]]):
    """None of these requests reaches the model."""
    limits = ("--queue", 1, "--timeout", 3, "--max-megabytes", 0.05, "--token", TOKEN)
    server = Server(tmp_path, "--port", 0, "--device", "cpu", *limits)
    try:
        assert server.get("/health").status == 200
        for path in ("/metrics", "/v1/predict"):
            assert server.get(path).status == 401
            assert server.get(path, Authorization="Bearer other").status == 401
        assert server.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        assert server.post("/v1/predict", sample).status == 401
        assert server.post("/v1/predict", [("x.xml", b"0" * 60_000)], TOKEN).status == 413
        with socket.create_connection(("127.0.0.1", server.port), timeout=200) as slow:
            head = (
                f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 40000\r\n\r\n"
            )
            slow.sendall(head.encode() + b"--" + BOUNDARY.encode())
            statuses = []
            while 429 not in statuses and 503 not in statuses:
                statuses.append(server.post("/v1/predict", [("x.xml", b"<a/>")], TOKEN).status)
            assert statuses[-1] == 429
            assert slow.recv(1000).startswith(b"HTTP/1.1 503")
        chunked = b"\r\n".join([b"ffff", b"0" * 0xFFFF, b"0", b"", b""])
        with socket.create_connection(("127.0.0.1", server.port), timeout=200) as unsaid:
            head = head.replace("Content-Length: 40000", "Transfer-Encoding: chunked")
            unsaid.sendall(head.encode() + chunked)
            assert unsaid.recv(1000).startswith(b"HTTP/1.1 413")
        assert TOKEN not in server.log
    finally:
        server.stop()


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path, sample: list[tuple[str, bytes]]):
    first = Server(tmp_path / "first", "--port", 0, "--device", "cpu", "--timeout", 200)
    second = None
    try:
        taken = run_command("serve", "--port", first.port, "--device", "cpu")
        assert (taken.returncode, len(taken.stderr.splitlines())) == (2, 1)
        assert "in use" in taken.stderr
        first.process.kill()
        first.process.wait()
        with pytest.raises(OSError):
            first.get("/health")
        second = Server(tmp_path / "second", "--port", first.port, "--device", "cpu", "--timeout", 200)
        assert second.port == first.port
        assert second.post("/v1/predict", sample).status == 200
    finally:
        first.stop()
        if second is not None:
            second.stop()
            assert "Traceback" not in second.log
