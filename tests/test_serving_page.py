"""The page of a server, in a browser: choose an adapter, give it a recording, see what was said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import CLIPS, Serving, serving

import adapter_hub

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
SCREENSHOTS = os.environ.get("ADAPTER_HUB_SCREENSHOTS")  # a folder to look at them

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and its driver"),
]

selenium = pytest.importorskip("selenium.webdriver")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def browser(server: Serving, tmp_path: Path) -> Iterator[selenium.Chrome]:
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = ["headless=new", "no-sandbox", "disable-dev-shm-usage", f"user-data-dir={tmp_path / 'profile'}"]
    flags += ["use-fake-ui-for-media-stream", "use-fake-device-for-media-stream", "window-size=900,900"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.implicitly_wait(15)
    driver.get(server.url)
    yield driver
    if SCREENSHOTS:
        driver.save_screenshot(str(Path(SCREENSHOTS) / f"{os.environ['PYTEST_CURRENT_TEST'][-40:-10]}.png"))
    said = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    driver.quit()
    assert not said


def text_of(browser: selenium.Chrome, name: str) -> str:
    return str(browser.find_element("id", name).text)


def waiting_for(browser: selenium.Chrome, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(f"return {script}"))


def ask(browser: selenium.Chrome, model: str, clip: Path, task: str = "transcriptions") -> None:
    waiting_for(browser, "document.querySelectorAll('#model option').length > 3")
    browser.execute_script("document.getElementById('model').value = arguments[0]", model)
    browser.execute_script("document.getElementById('task').value = arguments[0]", task)
    browser.find_element("id", "file").send_keys(str(clip))
    browser.find_element("id", "send").click()
    waiting_for(browser, "document.querySelectorAll('#segments tbody tr').length > 0")


def test_a_file_is_transcribed_and_the_adapter_is_told(browser: selenium.Chrome) -> None:
    ask(browser, "auto", CLIPS / "da.flac")
    (expected,) = adapter_hub.load("auto").transcribe(CLIPS / "da.flac", timestamps="trained")
    assert text_of(browser, "text") == expected.text
    assert "mini/da@1.0.0" in text_of(browser, "facts")
    assert text_of(browser, "segments").count("mini/da@1.0.0") == len(expected.segments)


def test_a_translation_is_shown(browser: selenium.Chrome) -> None:
    ask(browser, "base-model", CLIPS / "pl.flac", "translations")
    assert "english" in text_of(browser, "facts")


def test_an_error_is_shown(browser: selenium.Chrome, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no audio")
    waiting_for(browser, "document.querySelectorAll('#model option').length > 3")
    browser.find_element("id", "file").send_keys(str(tmp_path / "a.txt"))
    browser.find_element("id", "send").click()
    waiting_for(browser, "!document.getElementById('error').hidden")
    assert "a.txt: cannot be read as audio" in text_of(browser, "error")
    browser.get_log("browser")  # Chromium notes every answer that is an error


def test_the_microphone_is_recorded_and_sent(browser: selenium.Chrome) -> None:
    waiting_for(browser, "document.querySelectorAll('#model option').length > 3")
    browser.execute_script("document.getElementById('model').value = 'mini/da'")
    record = browser.find_element("id", "record")
    record.click()
    waiting_for(browser, "document.getElementById('record').textContent == 'Stop'")
    browser.execute_async_script("setTimeout(arguments[0], 1500)")
    record.click()
    waiting_for(browser, "!document.getElementById('result').hidden")
    waiting_for(browser, "document.getElementById('facts').textContent.includes('mini/da@1.0.0')")
    assert "recording.wav" in text_of(browser, "chosen")
