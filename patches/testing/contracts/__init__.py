"""Contract suites, one per Protocol: subclass one and give it a fixture."""
