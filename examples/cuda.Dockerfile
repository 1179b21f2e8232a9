# The command `equimod` with CUDA 13, cuDNN 9 and NCCL. Never built by this project's tests.
#   docker build -f examples/cuda.Dockerfile -t equimod .
#   docker run --gpus all -v "$PWD":/data -w /data equimod doctor --device cuda:0
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04 AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl g++ && rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/opt/cargo RUSTUP_HOME=/opt/rustup
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95
ENV PATH=/opt/cargo/bin:$PATH CUDA_COMPUTE_CAP=80 LIBRARY_PATH=/usr/local/cuda/lib64/stubs
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features cudnn,nccl

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
COPY --from=build /source/target/release/equimod /usr/local/bin/equimod
ENTRYPOINT ["equimod"]
