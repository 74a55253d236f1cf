"""The laboratory: a node in QEMU and everything around it (chain, relay, hub), for the tests in
tests/qemu, the benchmarks in tests/bench and `make demo`. Standard library only."""
