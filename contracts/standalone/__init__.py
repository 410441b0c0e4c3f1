"""Records of commands beside the chain: idle scans, rooflines, ladders, certificates, traffic, GPU benchmarks."""
