"""Prints what has a shell complete the commands: their options, folders, and Hydra's choices and settings."""

from __future__ import annotations

import os

import click
from click.shell_completion import BashComplete, ShellComplete, add_completion_class, get_completion_class

from gradflow.commands.words import COMPLETE, OneOf, Words

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = (
    'gradflow completion bash     in ~/.bashrc: eval "$(gradflow completion bash)"',
    'gradflow completion zsh      in ~/.zshrc: eval "$(gradflow completion zsh)"',
    "gradflow completion fish     in ~/.config/fish/config.fish: gradflow completion fish | source",
)
BASH = """
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" %(complete_var)s=bash_complete "$1")
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *) COMPREPLY+=("$value"); [[ $value == *= ]] && compopt -o nospace ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
"""As click's, but of the line as it is typed: bash itself would cut words at each =."""


class Bash(BashComplete):
    """Bash, which completes what comes after the last = alone."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that one."""
        line = os.environ["COMP_LINE"]
        words = click.shell_completion.split_arg_string(line)
        last = "" if not line or line[-1].isspace() else words.pop()
        self.done = last[: last.rfind("=") + 1]
        return words[1:], last

    def format_completion(self, item: click.shell_completion.CompletionItem) -> str:
        """Kind and value, without what bash has completed already."""
        return f"{item.type},{item.value.removeprefix(self.done)}"


def register() -> None:
    """Has click complete in bash as above."""
    add_completion_class(Bash, "bash")


@click.command("completion", cls=Words, examples=EXAMPLES)
@click.argument("shell", type=OneOf(SHELLS))
def command(shell: str) -> None:
    """Print what has SHELL (bash, zsh or fish) complete these commands: words, folders, choices and settings."""
    register()
    kind = get_completion_class(shell) or ShellComplete
    click.echo(kind(click.get_current_context().find_root().command, {}, "gradflow", COMPLETE).source())
