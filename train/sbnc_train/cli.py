"""The command `sbnc-train`."""

import argparse
import importlib

COMMANDS = {
    "corpus": "collect text with permissive licences from this machine",
    "prepare": "train a tokenizer and make token files",
    "train": "train a model",
    "export": "write a checkpoint that sbnc compiles",
    "ppl": "perplexity of an exported checkpoint, by PyTorch",
    "logits": "logits of an exported checkpoint, by PyTorch",
    "plot": "plot the curves of a run",
    "matrix": "train and compare ternary and BF16 models over several patterns",
}
MODULES = {"prepare": "data", "ppl": "score", "logits": "score"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="sbnc-train", description="Reference trainer for ternary N:M models that sbnc compiles.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        # Modules are loaded when the command is: `--help` needs no PyTorch.
        commands.add_parser(name, help=about, description=about, add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    module = importlib.import_module(f".{MODULES.get(arguments.command, arguments.command)}", __package__)
    inner = argparse.ArgumentParser(prog=f"sbnc-train {arguments.command}", description=COMMANDS[arguments.command])
    add = getattr(module, f"add_{arguments.command}_arguments", None) or module.add_arguments
    add(inner)
    run = getattr(module, f"run_{arguments.command}", None) or module.run
    run(inner.parse_args(rest))


if __name__ == "__main__":
    main()
