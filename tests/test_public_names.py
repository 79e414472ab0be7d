"""What is released stays: the public names, the command, and that importing them costs nothing."""

import subprocess
import sys

import pytest

import mfavbs

RELEASED = (
    "FAVB",
    "FeatureStore",
    "MFAVBs",
    "MFAVBsClustering",
    "MfavbsError",
    "Run",
    "ViT",
    "cluster_images",
    "embed",
    "load_encoder",
    "open_dataset",
    "open_images",
    "predict_images",
    "score",
)
HEAVY = ("torch", "sklearn", "scipy", "pyarrow", "numpy", "PIL")


@pytest.mark.parametrize("name", RELEASED)
def test_no_public_name_is_lost(name: str) -> None:
    assert callable(getattr(mfavbs, name))
    assert name in mfavbs.__all__
    assert name in dir(mfavbs)


def test_every_public_name_is_there() -> None:
    for name in mfavbs.__all__:
        assert getattr(mfavbs, name) is not None
    assert isinstance(mfavbs.__version__, str)


def test_the_command_is_importable() -> None:
    from mfavbs.cli import main

    assert callable(main)


@pytest.mark.parametrize(
    "code",
    [
        "import mfavbs, mfavbs.cli",
        "sys.argv = ['mfavbs', '--help']\nfrom mfavbs.cli import main\nmain()",
        "sys.argv = ['mfavbs', 'cluster', '--help']\nfrom mfavbs.cli import main\nmain()",
    ],
)
def test_importing_and_asking_for_help_import_nothing_heavy(code: str) -> None:
    at_exit = f"print('imported', *(set({HEAVY}) & sys.modules.keys()), file=sys.stderr)"
    script = f"import atexit, sys\natexit.register(lambda: {at_exit})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "imported\n")
