# docker build -t psistream --target cpu .              the built-in model on a CPU; also a gateway
# docker build -t psistream-gpu --target gpu .          full-size models on NVIDIA GPUs
# docker build -t psistream-ray --target gpu-cluster .  the same with Ray, for `psistream cluster up --ray`
# docker build -t psistream-ray-cpu --target cluster .  Ray on hosts without a GPU, such as its head
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
RUN pip install --no-cache-dir -c constraints.txt '.[snapshots]'
RUN useradd --create-home psistream
USER psistream
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --start-period=60s CMD curl -fsSI http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["psistream"]
CMD ["serve", "--host", "0.0.0.0", "--log-format", "json"]

FROM cpu AS cluster
USER root
RUN pip install --no-cache-dir -c constraints.txt '.[cluster]'
USER psistream
HEALTHCHECK NONE
CMD ["cluster", "--help"]

FROM nvcr.io/nvidia/tensorrt:25.10-py3 AS gpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends mosquitto curl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/psistream
COPY --from=cpu /opt/psistream .
RUN pip install --no-cache-dir '.[gpu,snapshots]'
RUN useradd --create-home psistream
USER psistream
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --start-period=300s CMD curl -fsSI http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["psistream"]
CMD ["serve", "--host", "0.0.0.0", "--backend", "tensorrt", "--log-format", "json"]

FROM gpu AS gpu-cluster
USER root
RUN pip install --no-cache-dir '.[cluster]'
USER psistream
HEALTHCHECK NONE
CMD ["cluster", "--help"]

FROM cpu
