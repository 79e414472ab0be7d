"""The methods of others, each a function (features, k, seed) -> labels."""
