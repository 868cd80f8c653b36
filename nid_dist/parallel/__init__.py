"""Where it runs: topology, exchange, engines and launch environment; the math knows none of them."""
