# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its own pipe."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60  # seconds
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # containers have none to give, and the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--no-first-run",
)


def find():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def start(folder):
    """A `Browser` whose files are all in `folder`."""
    theirs, ours = os.pipe(), os.pipe()  # what it reads, and what it writes
    script = 'in=$1 out=$2; shift 2; eval "exec \\"\\$@\\" 3<&$in 4>&$out"'
    descriptors = (theirs[0], ours[1])
    process = subprocess.Popen(
        ["bash", "-c", script, "sh", *map(str, descriptors), find(), *OPTIONS,
         f"--user-data-dir={folder}"],
        env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        pass_fds=descriptors,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for descriptor in descriptors:
        os.close(descriptor)
    try:
        browser = Browser(theirs[1], ours[0])
        yield browser
        browser.session = None
        browser.ask("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(theirs[1])
        os.close(ours[0])


class Browser:
    """One tab.

    `complaints` collects what goes to the console: errors, and refusals by the page's
    Content-Security-Policy; `requests` the addresses of everything that was asked for.
    """

    def __init__(self, requests, replies):
        self._out, self._in, self._number = requests, replies, 0
        self._waiting, self._loaded = b"", False
        self.session, self.complaints, self.requests = None, [], []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """Sends a command of the DevTools protocol and waits for its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self.session is not None:
            request["sessionId"] = self.session
        request = json.dumps(request).encode() + b"\0"
        while request:
            request = request[os.write(self._out, request) :]
        while (message := self._read()).get("id") != self._number:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def open(self, path, hash_="", scripts=True):
        """Loads a file, with scripts or without, and waits until it is all there."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        for url in (
            "about:blank",
            path.as_uri() + hash_,
        ):  # or only # might change
            self._loaded = False
            self.ask("Page.navigate", url=url)
            while not self._loaded:
                self._read()

    def settle(self):
        """Waits until what was changed has been drawn; not for pages without scripts."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def run(self, expression):
        """The value of a JavaScript expression, or of the promise that it gives."""
        result = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True,
                          returnByValue=True)  # fmt: skip
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def resize(self, width, height=900):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)  # fmt: skip

    def prefer(self, scheme, media=""):
        """Sets `"light"` or `"dark"`, and the medium, such as `"print"`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, **clip):
        """A PNG of the window, or of the place given as x, y, width and height."""
        clip = {"clip": {**clip, "scale": 1}} if clip else {}
        return base64.b64decode(self.ask("Page.captureScreenshot", **clip)["data"])

    def _read(self):
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            chunk = os.read(self._in, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("The browser has ended, or says nothing.")
            self._waiting += chunk
        message, self._waiting = self._waiting.split(b"\0", 1)
        message = json.loads(message)
        method, params = message.get("method"), message.get("params")
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(params["args"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message
