"""The lines of docs/serving.md that put the server behind Ray Serve, on a Ray of this machine."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import CLIPS

import adapter_hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
BEFORE = """
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
from ray import serve
serve.start(http_options={{"host": "127.0.0.1", "port": {port}}})
"""
AFTER = """
import openai
client = openai.OpenAI(base_url="http://127.0.0.1:{port}/v1", api_key="none", timeout=120)
print("text:", client.audio.transcriptions.create(model="auto", file=open("{clip}", "rb")).text)
events = client.audio.transcriptions.create(model="mini/da", file=open("{clip}", "rb"), stream=True)
print("text:", list(events)[-1].text)
serve.shutdown()
"""


def test_the_lines_for_ray_serve_transcribe(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
    (lines,) = re.findall(r"^```py\n(from ray import serve\n.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert '"num_gpus": 1' in lines
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clip = CLIPS / "da.flac"
    script = tmp_path / "on_ray.py"
    parts = (
        BEFORE,
        lines.replace('"num_gpus": 1', '"num_cpus": 1').replace("{", "{{").replace("}", "}}"),
        AFTER,
    )
    script.write_text("\n".join(part.format(port=port, clip=clip) for part in parts))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=280, check=False)
    said = [line.removeprefix("text: ") for line in done.stdout.splitlines() if line.startswith("text: ")]
    assert said == [adapter_hub.load("auto").transcribe(clip)[0].text] * 2, done.stderr[-2000:]
