"""Compare the models on a table, and draw from the best one.

``_compare`` is the command; it imports the rest. ``_files`` checks what is needed
before any work, ``_text`` reads a file, and ``_table`` chooses columns. ``_models``
lists the models, ``_cross_validation`` scores them on held-out rows, ``_progress``
shows how far it is, and ``_report`` formats the results and writes draws and picture.
"""
