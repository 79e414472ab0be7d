"""The exceptions a user of mfavbs can meet.

::

    MfavbsError
    ├── SourceError      the images or features given: missing, empty, unreadable, too few
    │   └── ImageError   one image that cannot be decoded; listed in failures.csv, never fatal
    ├── EncoderError     an unknown encoder, weights that cannot be fetched or do not fit
    ├── StoreError       a feature store made with other parameters, damaged or of a newer schema
    ├── RunError         a run folder that exists already, is incomplete or of a newer schema
    └── EngineError      an engine that is not installed or not reached, or lost its processes

Each message says what was expected, what came, and what to do next. The command line prints it
and exits with 1; a traceback is shown only with ``--debug``.
"""


class MfavbsError(Exception):
    """Anything mfavbs can explain to its user."""


class SourceError(MfavbsError, ValueError):
    """The images or features given cannot be clustered as asked."""


class ImageError(SourceError):
    """One image cannot be decoded."""


class EncoderError(MfavbsError, ValueError):
    """The encoder or its weights cannot be had as asked."""


class StoreError(MfavbsError):
    """A feature store does not fit what was asked of it."""


class RunError(MfavbsError):
    """A run folder does not fit what was asked of it."""


class EngineError(MfavbsError):
    """What should encode elsewhere cannot be had, or cannot go on."""
