import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest

import dspex as dx
from dspex import sandbox
from dspex.cli import main
from dspex.errors import DataError, DefinitionError
from dspex.sandbox.serving.mishaps import Plan

ASKED = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


def test_it_serves_while_it_is_open():
    """A server answers on a free port of this machine, counts its calls, and leaves nothing behind."""
    with dx.sandbox.serve() as server:
        assert server.url == f"http://127.0.0.1:{server.port}/v1"
        assert httpx.post(f"{server.url}/chat/completions", json=ASKED).status_code == 200
        assert [(call.number, call.model) for call in server.calls] == [(0, "small")]
        assert repr(server) == f"<sandbox server at {server.url}, 1 calls>"
    assert not server._thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_closing_lets_go_of_who_hangs():
    """Somebody who waits for an answer that never comes does not keep the server open."""
    failed = []

    def wait(url):
        try:
            httpx.post(f"{url}/chat/completions", json=ASKED, timeout=60)
        except httpx.HTTPError as error:
            failed.append(error)

    with sandbox.serve(faults=[{"kind": "hang"}]) as server:
        waiting = threading.Thread(target=wait, args=(server.url,))
        waiting.start()
        tick = threading.Event()
        while not server.calls:
            tick.wait(0.005)
    waiting.join(10)
    assert len(failed) == 1


def test_seeds_are_other_models():
    """A server with another seed is wrong about other things, as a simulated model is."""
    asked = {
        **ASKED,
        "messages": [{"role": "user", "content": "I was charged twice for the desk lamp, $20."}],
    }
    found = set()
    for seed in range(6):
        with sandbox.serve(seed=seed) as server:
            body = httpx.post(f"{server.url}/chat/completions", json=asked).json()
        found.add(body["choices"][0]["message"]["content"])
    assert len(found) > 1


def test_pace_waits_as_the_model_would(monkeypatch):
    """A pace of 1 waits for the simulated latency before it answers."""
    from dspex.sandbox.serving.app import Desk

    waited = []

    async def pause(self, seconds):
        waited.append(seconds)

    monkeypatch.setattr(Desk, "pause", pause)
    for pace in (0.0, 1.0, 2.0):
        with sandbox.serve(pace=pace) as server:
            httpx.post(f"{server.url}/chat/completions", json=ASKED)
    assert waited[0] == 0.0
    assert waited[2] == pytest.approx(2 * waited[1])
    assert waited[1] > 0


def test_faults_come_from_files_plans_and_rows(tmp_path):
    """Each way of saying what shall go wrong does the same."""
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nkind = "quota"\n')
    for faults in (path, str(path), [{"kind": "quota"}], Plan.of([{"kind": "quota"}])):
        with sandbox.serve(faults=faults) as server:
            assert httpx.post(f"{server.url}/chat/completions", json=ASKED).status_code == 429


def test_an_address_that_is_taken():
    """The error names the address and the way out."""
    with (
        sandbox.serve() as server,
        pytest.raises(DefinitionError, match=f"cannot listen on 127.0.0.1:{server.port}"),
    ):
        sandbox.serve(port=server.port)


def test_what_cannot_be_served():
    """Mistakes are said before anything listens."""
    with pytest.raises(DataError, match="did you mean 'hang'"):
        sandbox.serve(faults=[{"kind": "hnag"}])
    with pytest.raises(DefinitionError, match="pace must be 0 or more"):
        sandbox.serve(pace=-1)
    with pytest.raises(DefinitionError, match=r"cannot listen on 127.0.0.1:70000"):
        sandbox.serve(port=70_000)


def test_without_its_libraries_one_line_says_so(monkeypatch):
    """A missing extra is named, with what installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DefinitionError) as caught:
        sandbox.serve()
    assert str(caught.value) == "the sandbox server needs starlette, uvicorn\n  → pip install 'dspex[serve]'"


def test_the_sandbox_is_imported_without_them():
    """Nobody who does not serve needs the server's libraries."""
    code = "import sys, dspex.sandbox; print([n for n in ('starlette', 'uvicorn', 'pydantic') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    """It prints its address, answers there, and ends well on Ctrl-C."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "server_error"\nstatus = 500\ncalls = [0, 1]\n')
    command = [sys.executable, "-c", "import sys; from dspex.cli import main; sys.exit(main())"]
    options = ["sandbox", "serve", "--port", "0", "--faults", str(faults), "--api-key", "k"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        headers = {"Authorization": "Bearer k"}
        statuses = [
            httpx.post(f"{url}/chat/completions", json=ASKED, headers=headers, timeout=30).status_code
            for _ in range(2)
        ]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert statuses == [500, 200]
    assert process.returncode == 0
    assert rest.endswith("stopped after 2 calls\n")


def test_the_command_refuses_a_wrong_plan(tmp_path, capsys):
    """A fault plan that cannot be read ends the command with what is wrong."""
    assert main(["sandbox", "serve", "--faults", str(tmp_path / "none.toml")]) == 2
    assert "cannot read" in capsys.readouterr().err
