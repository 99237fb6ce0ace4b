"""The papers' tables again: every system trained and evaluated by the project's own commands.

reproduce(Run.open(Path("runs/lora-whisper"), scale="mini"), jobs=2)     # `adapter-hub reproduce`
"""
