# docker build -t psistream .                 the built-in model on a CPU
# docker build -t psistream:gpu --target gpu . full-size models on NVIDIA GPUs
FROM python:3.11-slim-bookworm AS cpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends mosquitto curl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/psistream
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY engine engine
COPY export export
COPY server server
COPY clients clients
COPY benchmarks benchmarks
RUN pip install --no-cache-dir -c constraints.txt .
RUN useradd --create-home psistream
USER psistream
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --start-period=60s CMD curl -fsSI http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["psistream"]
CMD ["serve", "--host", "0.0.0.0", "--log-format", "json"]

FROM nvcr.io/nvidia/tensorrt:25.10-py3 AS gpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends mosquitto curl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/psistream
COPY --from=cpu /opt/psistream .
RUN pip install --no-cache-dir '.[gpu]'
RUN useradd --create-home psistream
USER psistream
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --start-period=300s CMD curl -fsSI http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["psistream"]
CMD ["serve", "--host", "0.0.0.0", "--backend", "tensorrt", "--log-format", "json"]

FROM cpu
