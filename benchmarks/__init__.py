"""Benchmarks: one script for each question, one table for all.

``python -m benchmarks`` runs them all and writes ``benchmarks/results.md``;
``python -m benchmarks.kernel_density`` runs one. Nothing here is a test, and no
test measures time.
"""
