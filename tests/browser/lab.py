"""JupyterLab and a browser, driven: a server of its own, a page of its own, and nothing but this machine."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
from playwright.sync_api import Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playwright.sync_api import ElementHandle, WebSocketRoute

PATIENCE_S = 90.0
"""How long a step may take before it counts as broken; a loaded machine is slow, not broken."""

_OUTSIDE = re.compile(r"^(?!(https?|wss?)://(127\.0\.0\.1|localhost)[:/])(?!(data|blob|about|devtools):)")
_CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # What slips past the page's routes finds no address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
_LAB_CONFIG = {
    "ServerApp": {
        "ip": "127.0.0.1",
        "port": 0,
        "open_browser": False,
        "allow_root": True,
        "shutdown_no_activity_timeout": 600,  # a test that was killed could not end it
    },
    "MappingKernelManager": {"cull_idle_timeout": 600},
    "LabApp": {"expose_app_in_browser": True, "news_url": None, "extension_manager": "readonly"},
}
_LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
_workspaces = itertools.count()


def driver_runs() -> bool:
    """Whether Playwright's own node starts; a lean Debian lacks a library of it."""
    from playwright._impl._driver import compute_driver_executable

    node, _ = compute_driver_executable()
    return subprocess.run([node, "--version"], capture_output=True, check=False).returncode == 0


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


# ── the server ──────────────────────────────────────────────────────────────────────────────────────


class Lab:
    """A JupyterLab server that shares nothing with the user's own, and leaves nothing behind.

    Its home, settings, history, store and notebooks lie in a folder that goes when it goes.

    Attributes
    ----------
    root
        The folder JupyterLab shows; notebooks are copied into it.
    url, token
        Where it answers, and what lets one in.
    stragglers
        After it ended: the command lines of what had to be killed because it did not end by itself.
    """

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="dspex-lab-"))
        self.root = self._home / "notebooks"
        self.url = self.token = ""
        self.stragglers: list[str] = []

    def __enter__(self) -> Self:
        self.root.mkdir()
        config = self._home / "config"
        _write_json(config / "jupyter_server_config.json", _LAB_CONFIG)
        _write_json(config / "jupyter_lab_config.json", _LAB_CONFIG)
        _write_json(config / "labconfig" / "default_setting_overrides.json", _LAB_SETTINGS)
        with (self._home / "log.txt").open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={self.root}"],
                cwd=self.root,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return (self._home / "log.txt").read_text(encoding="utf-8", errors="replace")

    def add(self, notebook: Path, name: str | None = None) -> str:
        """Copy a notebook in and return the name to open it by."""
        name = name or notebook.name
        shutil.copyfile(notebook, self.root / name)
        return name

    def write(self, name: str, *cells: str) -> str:
        """Write a notebook of these code cells and return the name to open it by."""
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        code: list[dict[str, Any]] = [
            {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "execution_count": None}
            | {"outputs": [], "source": source}
            for number, source in enumerate(cells)
        ]
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": code}
        _write_json(self.root / name, notebook)
        return name

    def close(self) -> None:
        """End the server and every process it began, and remove the folder."""
        server = psutil.Process(self._server.pid) if self._server.poll() is None else None
        # Kernels have their own process groups, and their workers may too: only the tree knows them all.
        family = [] if server is None else server.children(recursive=True)
        if server is not None:
            server.terminate()  # it shuts its kernels down on its way out
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._kill([server])
        _, alive = psutil.wait_procs(family, timeout=5)
        self._kill([*alive, *self._strangers()])
        shutil.rmtree(self._home, ignore_errors=True)

    def _kill(self, processes: Iterable[psutil.Process]) -> None:
        processes = list(processes)
        for process in processes:
            try:
                self.stragglers.append(" ".join(process.cmdline()))
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=10)

    def _strangers(self) -> list[psutil.Process]:
        """Return kernels of ours that lost their parent: their command line names our folder."""
        running = psutil.process_iter(["cmdline"])
        return [p for p in running if any(str(self._home) in part for part in p.info["cmdline"] or ())]

    def _environment(self) -> dict[str, str]:
        home = self._home
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_"))},
            "HOME": str(home),
            # Packages of a user installation lie in the old home.
            "PYTHONUSERBASE": site.getuserbase(),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
            "DSPEX_STORE": str(home / "store.db"),
            "DSPY_CACHEDIR": str(home / "dspy"),
            "PYTHONWARNINGS": "default",
            # A kernel that asks for something outside is refused, as the page is.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def _wait_until_it_answers(self) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        note = self._home / "runtime" / f"jpserver-{self._server.pid}.json"
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            try:
                facts = json.loads(note.read_text(encoding="utf-8"))
                self.url, self.token = facts["url"].rstrip("/"), facts["token"]
                direct.open(f"{self.url}/api/status?token={self.token}", timeout=5).close()
            except (OSError, ValueError):
                try:
                    self._server.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError(f"JupyterLab ended before it answered:\n{self.log}") from None
            else:
                return
        raise TimeoutError(f"JupyterLab did not answer within {PATIENCE_S:g} s:\n{self.log}")


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


# ── the browser ─────────────────────────────────────────────────────────────────────────────────────


class Browser:
    """A headless Chromium with a new, empty profile.

    Parameters
    ----------
    executable
        Path of the Chromium; Playwright's own is not needed.
    """

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        try:
            self._chromium = self._playwright.chromium.launch(
                executable_path=self._executable, args=_CHROMIUM_ARGS, timeout=PATIENCE_S * 1000
            )
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._chromium.close()
        self._playwright.stop()

    def open(
        self, lab: Lab, notebook: str, *, width: int = 1280, height: int = 900, scale: float = 1.0
    ) -> NotebookPage:
        """Open a notebook of that JupyterLab, in a workspace of its own, and wait for its kernel."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            service_workers="block",
        )
        page = NotebookPage(context.new_page(), lab, notebook)
        page.go()
        return page


class NotebookPage:
    """One notebook open in JupyterLab.

    Attributes
    ----------
    page
        Playwright's page, for what is not offered here.
    outside
        Every address beyond this machine that the page asked for; each was refused.
    complaints
        What the page wrote as an error to its console, and the exceptions nobody caught.
    """

    def __init__(self, page: Page, lab: Lab, notebook: str) -> None:
        self.page, self.lab, self.notebook = page, lab, notebook
        self.outside: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_S * 1000)
        page.context.route(_OUTSIDE, self._refuse)
        page.context.route_web_socket(_OUTSIDE, self._refuse_socket)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.stack or error}"))
        page.on("console", self._listen)
        page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?" while a notebook is unsaved

    def _refuse(self, route: Any) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def _refuse_socket(self, socket: WebSocketRoute) -> None:
        self.outside.append(socket.url)
        socket.close()

    def _listen(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.location.get('url', '')}: {message.text}")

    # ── coming and going ────────────────────────────────────────────────────────────────────────────

    def go(self) -> None:
        """Open the notebook in a new workspace."""
        workspace = f"{self.lab.url}/lab/workspaces/w{os.getpid()}-{next(_workspaces)}"
        self.page.goto(f"{workspace}/tree/{self.notebook}?reset&token={self.lab.token}")
        self._wait_until_open()
        self.wait_until_idle()

    def reload(self) -> None:
        """Reload the page; the kernel lives on, and may be busy afterwards too."""
        self.page.reload()
        self._wait_until_open()

    def close(self) -> None:
        """Close the page and end its kernel."""
        self._do("panel.sessionContext.shutdown()")
        self.page.context.close()

    def _wait_until_open(self) -> None:
        self.wait_for(
            "panel.isVisible && panel.sessionContext.isReady && panel.sessionContext.session?.kernel"
        )
        self.wait_for(_NO_SPLASH)

    # ── asking the page ─────────────────────────────────────────────────────────────────────────────

    def wait_for(self, condition: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a JavaScript expression over ``app``, ``panel`` and ``cells`` holds.

        Raises
        ------
        TimeoutError
            If it did not hold in time; Playwright's, which says how long it waited.
        """
        guarded = f"() => {{ try {{ return !!({self._with_names(condition)})() }} catch {{ return false }} }}"
        self.page.wait_for_function(guarded, timeout=timeout_s * 1000)

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression over ``app``, ``panel`` and ``cells``."""
        return self.page.evaluate(self._with_names(expression))

    def _do(self, promise: str, timeout_s: float = PATIENCE_S) -> Any:
        """Return what a promise brings; the page itself would wait for ever."""
        late = f"new Promise((_, no) => setTimeout(() => no(new Error('late')), {timeout_s * 1000}))"
        return self.ask(f"Promise.race([{promise}, {late}])")

    def _with_names(self, expression: str) -> str:
        name = json.dumps(self.notebook)
        return f"""() => {{
            const app = window.jupyterapp;
            const panel = [...app.shell.widgets('main')].find(w => w.context?.path === {name});
            const cells = panel?.content?.widgets;
            return {expression};
        }}"""

    # ── cells ───────────────────────────────────────────────────────────────────────────────────────

    def append(self, source: str) -> int:
        """Add a code cell at the end; return its index."""
        cell = json.dumps({"cell_type": "code", "source": source})
        return int(self.ask(f"(panel.model.sharedModel.insertCell(cells.length, {cell}), cells.length - 1)"))

    def start_all(self) -> None:
        """Begin to run every cell; returns at once."""
        self.ask("cells.forEach(c => c.model.clearExecution?.())")  # what is then seen is of this run
        self._execute_on_panel("notebook:run-all-cells")

    def start(self, cell: int) -> None:
        """Begin to run one cell; returns at once."""
        self.ask(f"cells[{cell}].model.clearExecution()")
        self.ask(f"(panel.content.deselectAll(), panel.content.activeCellIndex = {cell}, undefined)")
        self._execute_on_panel("notebook:run-cell")

    def _execute_on_panel(self, command: str) -> None:
        # The commands act on the current widget, which may be another view of the notebook.
        self.ask("void app.shell.activateById(panel.id)")
        self.wait_for("app.shell.currentWidget === panel")
        self.ask(f"void app.commands.execute('{command}')")

    def run_all(self, timeout_s: float = PATIENCE_S) -> None:
        """Run every cell and wait for the last, or for the first that fails."""
        self.start_all()
        self.wait_until_all_ended(timeout_s)

    def run(self, cell: int, timeout_s: float = PATIENCE_S) -> None:
        """Run one cell and wait for its end."""
        self.start(cell)
        self.wait_until_ended(cell, timeout_s)

    def wait_until_ended(self, cell: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a cell that was begun has ended."""
        model = f"cells[{cell}].model"
        self.wait_for(f"{model}.executionCount !== null && {model}.executionState === 'idle'", timeout_s)

    def wait_until_all_ended(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every cell that was begun has ended, or one has failed."""
        self.wait_for(
            "cells.every(c => c.model.type !== 'code' || !c.model.sharedModel.source.trim()"
            " || (c.model.executionCount !== null && c.model.executionState === 'idle'))"
            f" || ({_ERRORS}).length > 0",
            timeout_s,
        )

    def wait_until_idle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the kernel has nothing to do."""
        self.wait_for("panel.sessionContext.session?.kernel?.status === 'idle'", timeout_s)

    def errors(self) -> list[str]:
        """Return what the cells' error outputs say."""
        return list(self.ask(_ERRORS))

    def show(self, cell: int) -> None:
        """Scroll until a cell begins where the notebook's window does, or as near as it can."""
        # Heights of cells beyond the window are guesses until they are drawn: look again after scrolling.
        self.wait_for(
            f"(node => (node.scrollIntoView(), node.getBoundingClientRect().top < innerHeight))(cells[{cell}].node)"
        )

    def output(self, cell: int) -> ElementHandle:
        """Return the element that holds a cell's output."""
        element = self.page.evaluate_handle(self._with_names(f"cells[{cell}].outputArea.node")).as_element()
        assert element is not None
        return element

    def python(self, expression: str, timeout_s: float = PATIENCE_S) -> Any:
        """Return the value of a Python expression in the kernel; it must be a literal.

        Raises
        ------
        RuntimeError
            If evaluating it failed.
        """
        content = json.dumps({"code": "", "silent": True, "user_expressions": {"value": expression}})
        kernel = "panel.sessionContext.session.kernel"
        reply = self._do(f"{kernel}.requestExecute({content}).done.then(m => m.content)", timeout_s)
        value = reply["user_expressions"]["value"]
        if value["status"] != "ok":
            raise RuntimeError(f"{expression}: {value['ename']}: {value['evalue']}")
        return ast.literal_eval(value["data"]["text/plain"])

    # ── the document and its looks ──────────────────────────────────────────────────────────────────

    def save(self) -> Path:
        """Save the notebook and return its file."""
        self._do("panel.context.save()")
        return self.lab.root / self.notebook

    def set_theme(self, name: str) -> None:
        """Change to a theme, such as ``"JupyterLab Dark"``, and wait until it is on."""
        self._do(f"app.commands.execute('apputils:change-theme', {{theme: {json.dumps(name)}}})")
        self.wait_for(f"document.body.dataset.jpThemeName === {json.dumps(name)} && {_NO_SPLASH}")

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Execute one of JupyterLab's commands and wait for it."""
        self._do(f"app.commands.execute({json.dumps(name)}, {json.dumps(arguments or {})}).then(() => null)")


_NO_SPLASH = "!document.getElementById('jupyterlab-splash')"
_ERRORS = (
    "cells.flatMap(c => c.model.type !== 'code' ? [] : c.model.sharedModel.outputs"
    ".filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`))"
)
