"""What XLA's compiler asks of an NVIDIA GPU."""

from dataclasses import dataclass

# By compute capability: threads and bytes of shared memory of a multiprocessor, and
# its units of float32.
MULTIPROCESSORS = {
    (7, 5): (1024, 65536, 64),
    (8, 0): (2048, 167936, 64),
    (8, 9): (1536, 102400, 128),
    (9, 0): (2048, 233472, 128),
    (10, 0): (2048, 233472, 128),
}
RESERVED = 1024  # bytes of a block's shared memory, from capability 8 on
ACCELERATED = 9  # the first capability with features of its own


@dataclass(frozen=True)
class Cuda:
    """The facts of a GPU that decide how XLA compiles for it.

    Attributes:
      capability: the compute capability.
      cores: streaming multiprocessors.
      clock: of a boosted core, in GHz.
      cache_bytes: of the second level.
    """

    capability: tuple[int, int]
    cores: int
    clock: float
    cache_bytes: int

    def config(self, name: str, memory_bytes: int, bandwidth: float) -> str:
        """A `GpuTargetConfigProto` of XLA's, as text.

        Args:
          name: of the device.
          memory_bytes: of its main memory.
          bandwidth: of that, in bytes a second.
        """
        major, minor = self.capability
        threads, shared, units = MULTIPROCESSORS[self.capability]
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: {threads}
  core_count: {self.cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(bandwidth)}
  l2_cache_size: {self.cache_bytes}
  clock_rate_ghz: {self.clock}
  device_memory_size: {memory_bytes}
  shared_memory_per_block_optin: {shared - RESERVED * (major >= 8)}
  cuda_compute_capability {{
    major: {major}
    minor: {minor}
    feature_extension: {"ACCELERATED_FEATURES" if major >= ACCELERATED else "NONE"}
  }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 13 minor: 0 }}
device_description_str: "{name}"
"""
