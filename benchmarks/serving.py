"""`mfavbs serve` under load: good and bad requests side by side, for as many minutes as are given.

In: a finished run and a folder of images. Out: a JSON object: requests by kind, wrong answers,
seconds of the good ones, memory of the process over time. Figures: docs/performance.md.

    python benchmarks/serving.py RUN FOLDER --minutes 20

Four clients ask at once. A good request is of one to eight images, or of features where the run is
of features; each image's answer is held against the one that it had alone, before the load. A bad
one is no picture, cut off, too large, of too many, of a wrong kind, slow, or hung up half way.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import psutil

CLIENTS, TOKEN, MAX_MB, MAX_IMAGES, SECONDS = 4, "a token", 5, 16, 10
WARM = 120  # seconds after which memory should no longer grow
PAUSE = 1.0  # requests a second that a client makes beside waiting for its answers


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Load:
    """What the clients share: the pictures, their answers, what was counted."""

    def __init__(self, port: int, paths: list[Path]) -> None:
        self.port = port
        self.contents = [path.read_bytes() for path in paths]
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.seconds: list[tuple[int, float]] = []  # of a good request: its images, its time
        self.expected: list[dict] = []
        self.lock = threading.Lock()

    def post(self, **what) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"} | what.pop("headers", {})
        url = f"http://127.0.0.1:{self.port}/predict"
        return httpx2.post(url, headers=headers, timeout=120, **what)

    def files(self, rows: list[int]) -> list:
        return [("images", (f"{row}.jpg", self.contents[row])) for row in rows]

    def count(self, kind: str, found: int, right: tuple[int, ...]) -> None:
        with self.lock:
            self.counts[f"{kind}: {found}"] += 1
            if found not in right:
                self.wrong.append(f"{kind} was answered with {found}")

    def same(self, got: dict, row: int) -> bool:
        wanted = self.expected[row]
        if got.get("cluster") != wanted.get("cluster"):
            return False
        pairs = zip(got.get("probabilities", []), wanted.get("probabilities", []), strict=True)
        return all(abs(a - b) < 1e-3 for a, b in pairs)

    def good(self, rng: random.Random) -> None:
        rows = [rng.randrange(len(self.contents)) for _ in range(rng.choice((1, 1, 1, 2, 4, 8)))]
        began = time.perf_counter()
        answer = self.post(files=self.files(rows))
        seconds = time.perf_counter() - began
        self.count("good", answer.status_code, (200,))
        if answer.status_code != 200:
            return
        images = answer.json()["images"]
        fits = len(images) == len(rows) and all(map(self.same, images, rows))
        with self.lock:
            self.seconds.append((len(rows), seconds))
            if not fits:
                self.wrong.append(f"another answer for {rows}")

    def mixed(self, rng: random.Random) -> None:
        """A picture that is none among good ones: it alone is told."""
        row, other = (rng.randrange(len(self.contents)) for _ in range(2))
        half = self.contents[other][: len(self.contents[other]) // 2]
        bad = rng.choice((b"", b"no picture", os.urandom(5000), half[:40]))
        sent = [*self.files([row]), ("images", ("bad.jpg", bad)), *self.files([other])]
        answer = self.post(files=sent)
        self.count("mixed", answer.status_code, (200,))
        if answer.status_code == 200:
            a, b, c = answer.json()["images"]
            if not (self.same(a, row) and "error" in b and self.same(c, other)):
                with self.lock:
                    self.wrong.append("a bad picture changed its neighbours' answers")

    def bad(self, rng: random.Random) -> None:
        kind = rng.choice(("json", "field", "large", "many", "token", "kind", "cut", "slow"))
        if kind in ("cut", "slow"):
            return self.broken_off(kind)
        asked = {
            "json": {
                "content": b'{"features": [[1, 2',
                "headers": {"Content-Type": "application/json"},
            },
            "field": {"files": [("picture", ("a.jpg", self.contents[0]))]},
            "large": {"content": bytes((MAX_MB + 1) * 10**6)},
            "many": {"files": self.files([0] * (MAX_IMAGES + 1))},
            "token": {"files": self.files([0]), "headers": {"Authorization": "Bearer another"}},
            "kind": {"content": b"hello", "headers": {"Content-Type": "text/plain"}},
        }[kind]
        right = {"large": (413,), "token": (401,)}.get(kind, (422,))
        try:
            self.count(kind, self.post(**asked).status_code, right)
        except httpx2.TransportError:  # hung up on while still sending what is too large
            self.count(kind, 413, right)

    def broken_off(self, kind: str) -> None:
        """Half a request: then nobody is there any more, or a byte a second until it is refused."""
        head = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS * 3) as there:
            there.sendall(head.encode() + b"{" * 500)
            if kind == "cut":
                with self.lock:
                    self.counts["cut: hung up"] += 1
                return
            there.settimeout(1)
            for _ in range(SECONDS * 3):
                try:
                    if said := there.recv(1000):
                        return self.count(kind, int(said.split()[1]), (503,))
                    return self.count(kind, 0, (503,))
                except TimeoutError:
                    there.sendall(b"{")
        self.count(kind, -1, (503,))

    def client(self, until: float, seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < until:
            ask = rng.choices((self.good, self.mixed, self.bad), (8, 1, 1))[0]
            try:
                ask(rng)
            except (httpx2.HTTPError, OSError) as error:
                with self.lock:
                    self.wrong.append(f"{ask.__name__}: {error!r}")
            time.sleep(rng.expovariate(PAUSE))  # as people do: the service is not to be drowned


def begun(run: str, port: int, weights: str | None) -> subprocess.Popen:
    bounds = ["--max-mb", MAX_MB, "--max-images", MAX_IMAGES, "--seconds", SECONDS]
    command = [sys.executable, "-m", "mfavbs", "serve", run, "--port", port, *bounds]
    command += ["--weights", weights] if weights else []
    environment = os.environ | {"MFAVBS_TOKEN": TOKEN}
    server = subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            httpx2.get(f"http://127.0.0.1:{port}/health").raise_for_status()
            return server
        except httpx2.HTTPError:
            time.sleep(0.2)
    server.kill()
    raise SystemExit("the service did not start within 2 minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--weights")
    args = parser.parse_args()
    kinds = (".jpg", ".jpeg", ".png")
    paths = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in kinds)[:60]
    port = free_port()
    server = begun(args.run, port, args.weights)
    try:
        load = Load(port, paths)
        for row in range(len(paths)):
            load.expected += load.post(files=load.files([row])).json()["images"]
        until = time.monotonic() + 60 * args.minutes
        clients = [threading.Thread(target=load.client, args=(until, n)) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        memory, process = [], psutil.Process(server.pid)
        began = time.monotonic()
        while any(client.is_alive() for client in clients):
            memory.append((time.monotonic() - began, process.memory_info().rss / 2**20))
            time.sleep(1)
    finally:
        server.terminate()
        server.wait(30)
    warm = [mib for at, mib in memory if at >= min(WARM, 30 * args.minutes)]
    quarter = max(1, len(warm) // 4)
    alone = sorted(seconds for n, seconds in load.seconds if n == 1)
    found = {
        "minutes": args.minutes,
        "requests": dict(sorted(load.counts.items())),
        "wrong": load.wrong[:20],
        "median_seconds": statistics.median(alone),
        "p99_seconds": alone[int(0.99 * (len(alone) - 1))],
        "memory_mib_first_quarter": round(statistics.median(warm[:quarter])),
        "memory_mib_last_quarter": round(statistics.median(warm[-quarter:])),
        "memory_mib_peak": round(max(mib for _, mib in memory)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
