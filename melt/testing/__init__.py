"""For test suites of others: `plugin` gives pytest a fixture that measures on devices."""
