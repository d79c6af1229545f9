"""How fast simple_fastcgi is beside what its users would pick instead; docs/benchmarks.md says how to read it."""
