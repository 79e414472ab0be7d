"""Run folders made by hand for the tests of the report, and a reader of its pages."""

import csv
import json
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.files import write_reasons

TAGS = """
    html head meta title style body header main footer nav section article h1 h2 h3 p a b bdi span
    code dl div dt dd ul ol li table caption thead tbody tr th td img figure figcaption svg rect
    path polyline text circle image
"""
ATTRIBUTES = """
    lang charset http-equiv content name class id href title aria-label aria-hidden role scope src
    width height alt decoding viewbox d points x y text-anchor tabindex cx cy r fill stroke
    stroke-width stroke-linecap stroke-opacity preserveaspectratio
"""
HOSTILE = [
    "a/<script>alert(1)</script>.png",
    'a/"onerror="alert(1)" x=\'.png',
    "a/' onmouseover='alert(1).png",
    "a/&lt;b&gt;&amp;.png",
    "a/{{ 7 * 7 }}{% raw %}.png",
    "a/\u202egnp.exe\u2066.png",
    "a/line\nfeed\r\t\x07.png",
    "a/</title></style><img src=x onerror=alert(1)>.png",
    "b/" + "very-long-" * 24 + ".png",
    "b/]]>--><!--.png",
]
COLUMNS = ("trust", "outlier", "copies", "flags")


class Page(HTMLParser):
    """The tags, attributes and text of a page; the style sheet is no text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = set(), [], []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        if self.lasttag != "style" or not data.strip().startswith(":root"):
            self.words.append(data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def make_run(folder, paths, clusters, *, k=3, labels=None, source=None, **changes):
    """Write a run folder; the confidence falls from row to row."""
    folder.mkdir(exist_ok=True)
    n = len(paths)
    confidence = np.linspace(0.99, 0.5, n, dtype=np.float32)
    rest = (1 - confidence)[:, None] / max(1, k - 1)
    probabilities = np.where(np.arange(k) == np.array(clusters)[:, None], confidence[:, None], rest)
    columns = {
        "path": pa.array(paths, pa.string()),
        "cluster": pa.array(clusters, pa.int32()),
        "confidence": pa.array(confidence, pa.float32()),
    }
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    columns |= {name: changes.pop(name) for name in COLUMNS if name in changes}
    for name in ("insight", "hierarchy"):
        content = changes.pop(name, None)
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    places = changes.pop("map", None)
    if places is not None:
        x, y = np.asarray(places, np.float32).T
        pq.write_table(pa.table({"x": x, "y": y}), folder / "map.parquet")
    columns["probabilities"] = pa.array(probabilities.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), folder / "labels.parquet")
    failures = changes.pop("failures", [])
    with (folder / "failures.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "reason"), *failures])
    write_reasons(folder / "skipped.csv", changes.pop("skipped", []))
    losses = [{"epoch": e, "total": 3 - e / 9, "balance": -e / 7} for e in range(1, 6)]
    metrics = {"n_images": n, "n_failures": len(failures), "n_clusters": k, "losses": losses}
    metrics |= {"n_clusters_found": len(set(clusters)), "seconds": {"training": 77.4}}
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    kind = "folder" if source else "array"
    record = {"schema": 1, "source": {"kind": kind, "location": str(source or "")}}
    record |= {"parameters": {"n_clusters": k, "objective": "disjoint", "precision": None}}
    record |= {"encoder": {"name": "timm:tiny"}, "device": "cpu", "versions": {"torch": "2.9"}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
