"""Clients of the soak: a process that runs requests and may be killed at any moment.

    python -m tests.soak.client PORT

Reads one request per line (JSON), runs each in a thread of its own, and writes one line per end. It is
written with the standard library alone, so that starting another after a kill costs nothing.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any

from tests.soak.clock import ActiveClock

TIMEOUT_S = 900.0  # a pause of the whole soak must not look like a server that is gone
PATH = "/v1/completions"


class Client:
    """Runs requests against a port.

    Args:
        port: of the server, on this machine.
        clock: stands still in pauses.
    """

    def __init__(self, port: int, clock: ActiveClock) -> None:
        self._port, self._clock = port, clock
        self._printing = threading.Lock()

    def run(self, ask: dict[str, Any]) -> dict[str, Any]:
        """One request to its end; how it went."""
        seen: dict[str, Any] = {"number": ask["number"], "events": [], "pieces": [], "margins": []}
        began = self._clock.now()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", PATH, json.dumps(body(ask)), headers(ask))
            response = connection.getresponse()
            seen["status"] = response.status
            if response.status == http.client.OK:
                self._read(ask, response, seen, began)
            else:
                seen["code"] = json.loads(response.read())["error"]["code"]
                seen["retry_after"] = response.getheader("retry-after")
        except (OSError, http.client.HTTPException, ValueError) as error:
            seen["broken"] = type(error).__name__
        finally:
            connection.close()
        seen["ended_at"] = time.monotonic()  # the same clock in every process of a machine
        seen["seconds"] = round(self._clock.now() - began, 4)
        return seen

    def _read(
        self, ask: dict[str, Any], response: http.client.HTTPResponse, seen: dict[str, Any], began: float
    ) -> None:
        """Follow a stream; hang up where the request says so."""
        while line := response.readline():
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                seen["done"] = True
                return
            event = json.loads(line[6:])
            if "error" in event:
                seen["code"] = event["error"]["code"]
                return
            seen["events"].append(round(self._clock.now() - began, 4))
            for choice in event["choices"]:
                if choice.get("logprobs"):
                    seen["pieces"] += choice["logprobs"]["tokens"]
                    seen["margins"] += margins(choice["logprobs"])
            if ask["cancel_after"] is not None and len(seen["events"]) >= ask["cancel_after"]:
                seen["hung_up"] = True
                return  # the connection is reset with tokens still coming

    def report(self, ask: dict[str, Any]) -> None:
        """Run a request and write how it went."""
        line = json.dumps(self.run(ask)) + "\n"
        with self._printing:
            sys.stdout.write(line)
            sys.stdout.flush()


def body(ask: dict[str, Any]) -> dict[str, Any]:
    """The request as the API takes it."""
    fields: dict[str, Any] = {
        "model": "smollm2",
        "prompt": ask["prompt"],
        "max_tokens": ask["tokens"],
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    if ask["reference"] is not None:
        fields["logprobs"] = 2
    if ask["kind"] == "too-long":
        fields["prompt"] = ask["prompt"][:1] * 20_000
    if ask["kind"] == "absurd":
        fields["temperature"] = -1
    return fields


def headers(ask: dict[str, Any]) -> dict[str, str]:
    """Who asks, and with which adapter."""
    named = {"content-type": "application/json", "x-tenant": ask["tenant"]}
    return named if ask["adapter"] is None else {**named, "x-adapter": ask["adapter"]}


def margins(logprobs: dict[str, Any]) -> list[float]:
    """By how much the likeliest token led, for each."""
    tops = [sorted(each.values(), reverse=True) for each in logprobs["top_logprobs"]]
    return [round(each[0] - each[1], 6) if len(each) > 1 else 0.0 for each in tops]


def main() -> None:
    """Run what standard input says until it ends, and wait for the last answers."""
    client = Client(int(sys.argv[1]), ActiveClock().start())
    running = []
    for line in sys.stdin:
        thread = threading.Thread(target=client.report, args=(json.loads(line),), daemon=True)
        thread.start()
        running.append(thread)
    for thread in running:
        thread.join()


if __name__ == "__main__":
    main()
