"""One-line mutants of the package, each with the test that must fail because of it."""
