"""Contract suites, one for each Protocol: subclass one and give it a fixture."""
