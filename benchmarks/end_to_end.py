"""Whether training from pixels pays: from the frozen answer, without an anchor, as VTCC does.

In: feature stores and their images. Out: a JSON line for each set, method and seed, as soon as it
is known; run again, it goes on. Figures: docs/performance.md. One thread, as the tables have it:

    OMP_NUM_THREADS=1 python benchmarks/end_to_end.py --set rsscn7 STORE rsscn7.tar 64 --out FILE

Many at once on a GPU: ``--jobs 8``. A line has of every epoch what ``pixel_runs.Record`` says, and
``between``: the same of weights between those of epoch 0 and of the kept and the last epoch.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pixel_runs import Job, Record, fitted, jobs_of, loaded, parser_of, recorded, run_all

from mfavbs import score
from mfavbs.model import EndToEnd

# Each with the parameters in which it differs; "vtcc" has no frozen run, so it has no anchor, no
# neighbours and nothing that judges its epochs. Without fusion the paper's objective is VTCC's.
METHODS: dict[str, dict[str, Any]] = {
    "anchor": {},
    "no anchor": {"anchor": False},
    "vtcc": {"frozen": None, "fusion": "none", "objective": "paper"},
    "random start": {"start": "random"},
    "channel fusion": {"fusion": "channel"},
    "no fusion": {"fusion": "none"},
    "paper objective": {"objective": "paper"},
    "anchor never withheld": {"anchor_drop": 0.0},
    "withheld 0.3": {"anchor_drop": 0.3},
    "withheld 0.5": {"anchor_drop": 0.5},
    "2 blocks": {"n_blocks": 2},
    "3 blocks": {"n_blocks": 3},
    "rate 3e-4": {"learning_rate": 3e-4},
    "rate 3e-3": {"learning_rate": 3e-3},
    "30 epochs": {"epochs": 30},
    "60 epochs": {"epochs": 60},
    "vtcc 60 epochs": {
        "frozen": None,
        "fusion": "none",
        "objective": "paper",
        "epochs": 60,
    },
    "width 192": {"dim": 192},
    "colours strong": {"augment": "strong"},
    "recipe simclr": {"recipe": "simclr"},
    "recipe byol": {"recipe": "byol"},
    "recipe vtcc": {"recipe": "vtcc"},
}


def trained(job: Job) -> dict[str, Any]:
    """What one method made of a set."""
    data, method = loaded(job.data), job.about["method"]
    device, seed = job.options["device"], job.about["seed"]
    changed = {} if method == "frozen" else METHODS[method]
    dim = changed.get("dim", job.options["dim"])
    frozen = fitted(job.data, dim, seed, device)
    answer = score(data.labels, frozen.labels_)
    if method == "frozen":
        return answer
    return {"frozen": answer, **end_to_end(job, {"frozen": frozen, **changed})}


def end_to_end(job: Job, parameters: dict[str, Any]) -> dict[str, Any]:
    """Scores, epochs and what lies between them of one fit."""
    data = loaded(job.data)
    parameters = {"anchor_widths": data.blocks.tolist(), **job.options, **parameters}
    frozen, features = parameters["frozen"], data.features
    if frozen is None:
        k = len(set(data.labels.tolist()))
        parameters |= {"n_clusters": k, "anchor_widths": None}
        features = None
    weights = frozen is not None and parameters.get("start") != "random"
    begun = time.perf_counter()
    with recorded(data.labels, weights=weights) as record, TemporaryDirectory() as folder:
        # A checkpoint is written as by the command, so that its time counts.
        model = EndToEnd(**parameters)
        model.fit(data.pixels, data.crops, features, checkpoint=Path(folder) / "c.pt")
    seconds = time.perf_counter() - begun
    answer = score(data.labels, model.labels_)
    return {
        **answer,
        "best_epoch": model.best_epoch_,
        "head": model.head_,
        "history": joined(model.history_, record),
        "between": between(model, record) if weights else [],
        "seconds": round(seconds, 1),
    }


def joined(history: list[dict], record: Record) -> list[dict]:
    """Losses and the head that was chosen, and what was recorded, of every epoch."""
    kept = ("epoch", "head", "cluster", "balance", "instance")
    return [
        {name: entry[name] for name in kept if name in entry} | seen
        for entry, seen in zip(history, record.epochs, strict=True)
    ]


def between(model: EndToEnd, record: Record) -> list[dict]:
    epochs = {model.best_epoch_, len(record.epochs) - 1} - {0}
    return [x for epoch in sorted(epochs) for x in record.between(model.network_, epoch)]


def main() -> None:
    args = parser_of(__doc__, "frozen,anchor,vtcc,no anchor").parse_args()
    run_all(args, jobs_of(args), trained)


if __name__ == "__main__":
    main()
