# `mfavbs serve` with a CPU-only PyTorch. TORCH_INDEX is the package index that PyTorch's install page
# names for pip and CPU:
#
#     docker build --build-arg TORCH_INDEX=URL -t mfavbs .
#     docker run -p 127.0.0.1:8000:8000 -e MFAVBS_TOKEN=... -v "$PWD/mfavbs-photos:/run-folder:ro" mfavbs
#
# A run that names weights by a path needs them there: mount them, and add `--weights PATH`.
FROM python:3.12-slim
ARG TORCH_INDEX
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir '/src[serve]' && useradd --create-home serving
USER serving
EXPOSE 8000
ENTRYPOINT ["mfavbs", "serve", "/run-folder", "--host", "0.0.0.0"]
