"""The peers that mfavbs is measured against, and the measuring."""
