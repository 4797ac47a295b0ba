"""The main job: compare the models on a table, and draw from the best.

``_data`` reads the table, ``_candidates`` lists the models, ``_cross_validation``
scores them on held-out rows, and ``_report`` writes what came of it.
"""
