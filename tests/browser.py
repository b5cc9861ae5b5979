"""A page as a browser without a window shows it, where no name of the network is known."""

import asyncio
import base64
import io
import json
import subprocess
import time

import matplotlib.image
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

PATIENCE = 120.0
TEXT = """(function text(node) {
    if (node.nodeType == Node.TEXT_NODE) return node.data.trim() + " "
    if (["SCRIPT", "STYLE"].includes(node.nodeName)) return ""
    return [...node.childNodes, ...(node.shadowRoot ? [node.shadowRoot] : [])].map(text).join("")
})(document.body)"""


class Page:
    """A page of bokeh in Chromium, by the protocol of its developer tools."""

    def __init__(self, chromium, path, folder):
        profile = folder / "profile"
        self._runner = asyncio.Runner()
        self._process = subprocess.Popen(
            [
                chromium,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--hide-scrollbars",
                "--window-size=1000,700",
                f"--user-data-dir={profile}",
                "--remote-debugging-port=0",
                path.as_uri(),
            ],
            stderr=subprocess.DEVNULL,
        )
        self._port = profile / "DevToolsActivePort"

    def __enter__(self):
        self._socket = self._runner.run(self._connect())
        self.wait_for("!!window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)
        self._runner.close()

    async def _connect(self):
        end = time.monotonic() + PATIENCE
        while not (self._port.exists() and self._port.read_text()):
            assert time.monotonic() < end, "the browser has not started"
            await asyncio.sleep(0.05)
        port = self._port.read_text().split()[0]
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json")
        (page,) = (target for target in json.loads(answer.body) if target["type"] == "page")
        return await websocket_connect(page["webSocketDebuggerUrl"], max_message_size=2**28)

    def _ask(self, method, **parameters):
        async def ask():
            await self._socket.write_message(
                json.dumps({"id": 1, "method": method, "params": parameters})
            )
            while True:  # events come in between
                answer = json.loads(await self._socket.read_message())
                if "id" in answer:
                    return answer["result"]

        return self._runner.run(ask())

    def value(self, expression):
        """Return what an expression of JavaScript comes to."""
        return self._ask("Runtime.evaluate", expression=expression)["result"]["value"]

    def wait_for(self, expression):
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"it did not come to {expression}"
            time.sleep(0.05)

    def picture(self):
        """Return what is seen, shape (height, width, 3), from 0 to 1."""
        data = base64.b64decode(self._ask("Page.captureScreenshot")["data"])
        return matplotlib.image.imread(io.BytesIO(data), format="png")[..., :3]

    def point_at(self, x, y):
        """Move the pointer to a pixel."""
        for near in (x + 3, x):
            self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=float(near), y=float(y))

    def scroll(self, x, y, by):
        """Turn the wheel over a pixel."""
        self._ask(
            "Input.dispatchMouseEvent",
            type="mouseWheel",
            x=float(x),
            y=float(y),
            deltaX=0.0,
            deltaY=float(by),
        )
