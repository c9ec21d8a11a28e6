"""The bridge experiment (4a): tasks, what the models are given, the arms and controls, and the study of one run.

`tasks` says what is asked and how an answer counts; `pair` loads the two models and encodes a task for them once;
`decoding` lets the target answer; `arms` are the ways in which it can be told the question; `stressors` are the faults
of the published code; `study` trains, judges and yields the rows that the notebook shows.
"""
