"""The library of the benchmarks: contenders, their processes, workloads, measurements and tables."""
