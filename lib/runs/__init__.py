"""The life of a run folder, and how finished ones are read.

`runs/<experiment>/<label>_<YYYYmmdd_HHMMSS>_<hash6>/` is created with its configuration in it, filled line by line
while the run works (`writing`), and closed by `metrics.json`, written last and in one step: a folder that has it is a
complete run, and nothing else says so. A folder is never reused, so a crash costs one run and never an older result.
Readers (`reading`) take of each configuration the complete run that counts; a damaged folder is named in a warning and
left out. `python -m lib.runs` carries runs from one machine to another (`archive`).
"""

from lib.runs.folder import RECORDS, SCHEMA, RunWarning, StorageError, experiment_folder
from lib.runs.reading import Finished, complete_with, finished, load, rows, summaries
from lib.runs.writing import NOT_PARAMETERS, Run, open_run, prepare

__all__ = [
    "NOT_PARAMETERS",
    "RECORDS",
    "SCHEMA",
    "Finished",
    "Run",
    "RunWarning",
    "StorageError",
    "complete_with",
    "experiment_folder",
    "finished",
    "load",
    "open_run",
    "prepare",
    "rows",
    "summaries",
]
