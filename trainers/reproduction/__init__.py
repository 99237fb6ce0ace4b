"""The papers' tables again: every system trained and evaluated by the project's own commands.

    reproduce(Path("runs/lora-whisper"), ReproduceOptions(jobs=2), tell=print)     # `adapter-hub reproduce`

Every cell of a table is a training, a measurement or an evaluation; a run that was killed resumes.
"""
