"""The bridge experiments: 4a (what a message carries), 4b (what it costs on the wire), 4c (what it saves).

`tasks` says what is asked and how an answer counts; `pair` loads the two models and encodes a task for them once;
`decoding` lets the target answer; `arms` are the ways in which it can be told the question; `stressors` are the faults
of the published code; `study` trains, judges and yields the rows that 4a's notebook shows. `chosen` finds the bridge
that 4b and 4c are about; `wire_study` is 4b and `geometry` the sizes of the plan's own messages; `inference` is 4c,
with its stages, FLOPs, memory and the engine that serves (`serving`). A `*_report` holds the tables of a notebook.
"""
