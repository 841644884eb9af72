# metajax in a container.
#
#   docker build -t metajax .                               for CPUs
#   docker build -t metajax-cuda --build-arg EXTRA=cuda .   for NVIDIA's GPUs
#   docker run --rm -v "$PWD:/work" metajax train glyphs
#   docker run --rm --gpus all -v "$PWD:/work" metajax-cuda train glyphs
#
# CUDA's libraries come with JAX; the host has the driver and NVIDIA's container toolkit.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRA=export
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/metajax-*.whl)[${EXTRA}]"
# Runs and prepared data stay in the folder that is mounted here.
ENV HOME=/work
WORKDIR /work
ENTRYPOINT ["metajax"]
CMD ["--help"]
