"""An example of every command: at the end of its help, and in docs/commands.md."""

from __future__ import annotations

import click

# in this order they build on one another: what `train` makes, `publish` publishes
EXAMPLES = {
    "list": "adapter-hub list --language da",
    "search": "adapter-hub search --language es --base-model openai/whisper-small --peft",
    "show": "adapter-hub show mini/da",
    "card": "adapter-hub card mini/da",
    "lineage": "adapter-hub lineage mini/it --descendants",
    "bom": "adapter-hub bom mini/da-pair --out da-pair.cdx.json",
    "diff": "adapter-hub diff mini/da mini/da-scratch",
    "transcribe": "adapter-hub transcribe auto talk.wav --format srt --out talk.srt",
    "serve": "adapter-hub serve auto --alias whisper-1=auto",
    "bulk": "adapter-hub bulk data/es --model auto --out transcripts",
    "export": "adapter-hub export mini/da --format ctranslate2 --quantization int8 --out da-ctranslate2",
    "pull": "adapter-hub pull 'mini/da~=1.0' --to da",
    "lock": "adapter-hub lock 'mini/da~=1.0'",
    "sync": "adapter-hub sync --locked",
    "base-model fetch": "adapter-hub base-model fetch openai/whisper-small",
    "base-model show": "adapter-hub base-model show openai/whisper-small",
    "data check": "adapter-hub data check data/es",
    "similarity": "adapter-hub similarity --data data/es --split train --language es",
    "recipe new": "adapter-hub recipe new lora --data data/es --language es --namespace alice --author Alice "
    "--license CC-BY-4.0 --out es.toml",
    "train": "adapter-hub train es.toml --out out/es",
    "average": "adapter-hub average mini/pl mini/it --rank 12 --as alice/pl-it@1.0.0 --out out/pl-it",
    "extract": "adapter-hub extract ./whisper-es --base-model openai/whisper-small --rank 32 --language es "
    "--license MIT --as alice/es-extracted@1.0.0 --out out/es-extracted",
    "fold": "adapter-hub fold alice/es-pair --out out/es-folded",
    "evaluate": "adapter-hub evaluate ./out/es --data data/es --out report.json",
    "compare": "adapter-hub compare base.json report.json",
    "reproduce": "adapter-hub reproduce lora-whisper --dry-run",
    "demo": "adapter-hub demo --quick --out demo",
    "publish": "adapter-hub publish out/es",
    "attach": "adapter-hub attach report.json",
    "import": "adapter-hub import hf://bob/whisper-lora-es --out out/theirs",
    "mirror": "adapter-hub mirror mini/da --from embedded --to ./mirror",
    "retire": 'adapter-hub retire alice/es@1.0.0 --status deprecated --reason "use 1.1.0"',
    "audit": "adapter-hub audit mini/da",
    "registry check": "adapter-hub registry check",
    "registry rebuild": "adapter-hub registry rebuild",
    "registry trust": "adapter-hub registry trust mine/registry.json",
    "cache list": "adapter-hub cache list",
    "cache prune": "adapter-hub cache prune --unused-days 7",
    "cache verify": "adapter-hub cache verify",
}


def with_example(command: click.Command, path: str) -> click.Command:
    """Put the example of a command, and those of its subcommands, at the end of their help; return it.

    Args:
        command: that is asked for.
        path: its name, after those of its groups.
    """
    if path in EXAMPLES:
        command.epilog = f"\b\nExample:\n  {EXAMPLES[path]}"
    for name, subcommand in command.commands.items() if isinstance(command, click.Group) else ():
        with_example(subcommand, f"{path} {name}")
    return command
