"""``ecg-hf demo``: refused in one line, and driven in a browser where there is one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ecg_hf
from ecg_hf.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *arguments])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "need gradio: pip install 'ecg-hf[demo]'" in refused(capsys)


def test_who_may_not_be_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    assert "0.0.0.0 is not loopback" in refused(capsys, "--host", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"can't listen on 127.0.0.1:{port}" in refused(capsys, "--port", port)
    assert "no config.json" in refused(capsys, str(tmp_path), "--port", "0")


@pytest.fixture
def url() -> Iterator[str]:
    pytest.importorskip("gradio", reason="the extra 'demo' is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "ecg_hf.cli", "demo", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr is not None
    try:
        line = next(line for line in server.stderr if "http://" in line)
        yield re.findall(r"http://\S+", line)[0]
    finally:
        server.terminate()
        rest = server.stderr.read()
        assert server.wait(30) == 0
    assert rest == "", "nothing of what was uploaded is logged, and nothing went wrong unseen"


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    drivers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with drivers.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        elsewhere: list[str] = []
        page.on("request", lambda asked: asked.url.startswith((url, "data:")) or elsewhere.append(asked.url))
        page.on("dialog", lambda dialog: pytest.fail("a text of a stranger ran as a script"))
        page.goto(url)
        yield page
        browser.close()
    assert elsewhere == []


@pytest.mark.slow
def test_from_an_upload_to_scores_and_pictures(page: Any, tmp_path: Path) -> None:
    record = ecg_hf.sample_record()
    # What can't be read is said in a line, without a place on this machine.
    wrong = tmp_path / "ZZTESTNAME <img src=x onerror=alert(1)>.xml"
    wrong.write_text("<html>ZZTESTNAME</html>")
    page.set_input_files("#upload input[type=file]", [wrong])
    said = page.locator("#summary [role=alert]").inner_text()
    assert said.startswith("Not possible: ")
    assert not re.search(r"/tmp|ZZTESTNAME|Traceback", said)
    page.reload()

    page.set_input_files("#upload input[type=file]", [record, record.with_suffix(".dat")])
    assert "complete left bundle branch block" in page.locator("#findings table").inner_text()
    assert "heart rate 64 per minute" in page.locator("#summary").inner_text()
    assert "CLBBB" in page.locator("#nearest table").inner_text()
    drawn = page.locator("#picture img")
    assert "12 leads over 10 s" in drawn.get_attribute("alt")
    assert drawn.evaluate("image => image.complete && image.naturalWidth") > 1000

    # By keyboard alone: labels, Enter.
    page.locator("#labels textarea, #labels input").fill(
        "left bundle branch block, <b>atrial</b> fibrillation"
    )
    page.keyboard.press("Enter")
    table = page.locator("#similarities table").inner_text()
    assert "+0.15" in table
    assert "<b>atrial</b> fibrillation" in table

    page.locator("button#explain").press("Enter")
    page.locator("#explanation img").wait_for(timeout=90_000)
    assert "orange" in page.locator("#explanation img").get_attribute("alt")
    page.screenshot(path=tmp_path / "page.png", full_page=True)

    assert "/ecg-hf-demo-" not in page.content(), "the page says where the server keeps an upload"

    # An upload that can't be read takes the earlier answers away.
    page.locator("#upload button[aria-label]").first.click()
    page.set_input_files("#upload input[type=file]", [wrong])
    page.locator("#summary [role=alert]").wait_for()
    assert page.locator("#findings table, #picture img, #similarities table").count() == 0
