"""Write the page of a run.

``thumbnails.py`` decodes the few images on show,
``data.py`` makes plain values of both, ``page.py`` sets the page from those.
"""

import os
from pathlib import Path

from mfavbs.errors import RunError
from mfavbs.images import Images
from mfavbs.report.data import collect
from mfavbs.report.page import render


def write_report(run: str | os.PathLike[str], images: Images | None = None) -> Path:
    """Write ``report.html`` into a run folder, in place of the one that may be there.

    Parameters
    ----------
    run
        A run folder as ``mfavbs cluster`` leaves it.
    images
        The images clustered, from :func:`mfavbs.open_images`. By default they are opened where
        ``run.json`` says they were; where that fails, the report is written without thumbnails
        and says why.

    Returns
    -------
    Path
        The file written. It needs no other file, no script and no network.

    Raises
    ------
    RunError
        The run folder is incomplete, damaged, of a newer schema or cannot be written to.
    """
    text = render(collect(Path(run), images))
    path = Path(run) / "report.html"
    # Renamed when whole: whoever has the old report open never meets half of a new one.
    part = path.with_name(f".report.html.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path
