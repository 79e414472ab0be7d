"""How many images go through the encoder."""

from mfavbs.features.encoding import Encoding


class Counting:
    """How many images have gone through the encoder since the last time it was asked."""

    def __init__(self, monkeypatch):
        self.n = 0
        begin = Encoding._begin

        def counted(encoding, part):
            self.n += len(part.hashes)
            return begin(encoding, part)

        monkeypatch.setattr(Encoding, "_begin", counted)

    def __call__(self):
        n, self.n = self.n, 0
        return n
