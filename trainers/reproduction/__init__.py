"""Reproductions of papers: every system trained and evaluated by the project's own commands, and its tables.

    adapter-hub reproduce lora-whisper --out runs/lora-whisper

The engine (`paper`, `cells`, `choices`, `run`, `workers`, `reproducing`) knows cells, not what is in them. A
paper is a folder beside `lora_whisper` whose `__init__` defines a subclass of `paper.Paper`, and an entry in
`PAPERS`:

- `scales` names its settings files, and `read` parses one into a record derived from `paper.PaperSettings`.
- `plan` returns the cells of its tables, each with the names of those that it needs, given what the finished
  ones found: what is learned on the way (a rate chosen on dev, a nearest language) shows in the next plan.
- `do` carries one cell out in a worker process, with the functions of `working`, and returns plain data.
- `report` writes the pages, with `comparing`, `claims`, `drawing` and `pages` for what every paper needs.

Nothing else changes: several cells at a time, resuming, failures, progress and the record of how a run was
made are the engine's.
"""

PAPERS = {
    "lora-whisper": "adapter_hub.trainers.reproduction.lora_whisper:LoraWhisper",
    "parameter-averaging": "adapter_hub.trainers.reproduction.parameter_averaging:ParameterAveraging",
}
