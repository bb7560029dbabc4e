"""Restarts the running script once with an environment in which PyTorch's temporaries are cheap. Import it first."""
import os
import sys

# Large tensors come from the heap: fresh mmap pages for every temporary would double the time of a step.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1",
    "ATEN_CPU_CAPABILITY": "avx512",
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",  # its worker threads would spin against the micro-batches of the other core
}

if "GLIBC_TUNABLES" not in os.environ and sys.argv[0].endswith(".py"):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**ENVIRONMENT, **os.environ})
