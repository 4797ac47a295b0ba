"""Compare the models on a table, and draw from the best one.

``_data`` reads the table, ``_candidates`` lists the models, ``_cross_validation``
scores them on held-out rows, ``_progress`` shows how far it is, and ``_report``
formats the results and writes the draws and the picture.
"""
