"""Write the page of a run.

``thumbnails.py`` decodes the few images on show, ``keeping.py`` keeps them in the run,
``data.py`` makes plain values of both, ``page.py`` sets the page from those.
"""

import os
import warnings
from pathlib import Path

from mfavbs.errors import RunError
from mfavbs.files import user_path, write_whole
from mfavbs.images import Images
from mfavbs.locking import alone_in
from mfavbs.report.data import collect
from mfavbs.report.page import render
from mfavbs.runs import keep_thumbnails, read_run


def write_report(run: str | os.PathLike[str], images: Images | None = None) -> Path:
    """Write ``report.html`` into a run folder, in place of the one that may be there.

    Parameters
    ----------
    run
        A run folder as ``mfavbs cluster`` leaves it.
    images
        The images clustered, from :func:`mfavbs.open_images`, where they lie now. By default the
        thumbnails kept in the run are shown; those that it lacks are made of the images where
        ``run.json`` says they were. What cannot be shown is said in the report and in a warning.

    Returns
    -------
    Path
        The file written. It needs no other file, no script and no network.

    Raises
    ------
    RunError
        The run folder is incomplete, damaged, of a newer schema or cannot be written to, another
        process is at work in it, or ``images`` are others.
    """
    folder = user_path(run)
    read_run(folder)  # what is no run is not locked
    with alone_in(folder):
        for note in write_page(folder, images):
            # A record may quote bytes of a name that are not UTF-8.
            text = note.encode("utf-8", "backslashreplace").decode("utf-8")
            warnings.warn(text, stacklevel=2)
    return folder / "report.html"


def write_page(run: str | os.PathLike[str], images: Images | None = None) -> list[str]:
    """Do as :func:`write_report` does, in a run folder that is locked already.

    Returns what the report says of images that cannot be shown.
    """
    folder = Path(run)
    data = collect(folder, images)
    path = folder / "report.html"
    try:
        keep_thumbnails(folder, data.thumbnails())
        write_whole(path, lambda file: file.write(render(data).encode()))
        for left in folder.glob(".report.html.*.part"):  # of a version before, when it was killed
            left.unlink()
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return data.notes
