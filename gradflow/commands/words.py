"""How the commands read what is typed: options (`--lang zh`), which may be written as Hydra's settings (`lang=zh`).

Exit statuses: 0, all is well; 1, something failed, is ill or is unproved; 2, wrong usage; 130, interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from gradflow.commands.encodings import speak_any, what_is_no_text

LONGEST = 4_000  # characters of a value
OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
HELP = ["-h", "--help"]
COMPLETE = "_GRADFLOW_COMPLETE"
"""The variable by which a shell asks for completions."""
LANGUAGES, CONTEXTS, THEMES = ("en", "zh"), ("slide", "notebook", "paper"), ("light", "dark")


class Told(click.UsageError):
    """Wrong usage whose message says what to do."""


class OneOf(click.Choice):
    """One of some words; an error says it as all of gradflow's do."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word."""
        if value not in self.choices:
            from gradflow.checks import did_you_mean
            from gradflow.commands.arguments import named

            name, near = param.name if param else "value", did_you_mean(value, self.choices)
            raise click.UsageError(f"{name}: expected one of {', '.join(self.choices)}, got {named(value)}{near}", ctx)
        return value


class Folder(click.ParamType):
    """The folder of runs, which need not be there: whoever reads it says what is wrong with it."""

    name = "folder"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Folders, and what else the command takes."""
        return [CompletionItem(incomplete, type="dir"), *_completed(ctx.command, ctx, incomplete)]


class Setting(Folder):
    """The folder of runs, or a setting of Hydra's."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Folders, choices, settings, and what else the command takes."""
        from gradflow.commands.choices import overrides  # here, as it loads every setting

        found = [CompletionItem(word) for word in overrides() if word.startswith(incomplete)]
        return [*super().shell_complete(ctx, param, incomplete), *found]


class Words(click.Command):
    """A command whose options and arguments are also taken as `key=value`.

    Args:
        examples: Command lines that `--help` shows as they are.
        settings: Whether words that it does not know are settings of a run, which go into its last argument.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), settings: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"help_option_names": HELP, "max_content_width": 100}
        self.examples, self.settings = examples, settings

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Has click read the words in one spelling."""
        if ctx.resilient_parsing:  # of what is half typed, for completion
            args = [word for word in args if "=" not in word or word.startswith("-")]
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, self._in_one_spelling(ctx, args))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, line by line."""
        write_lines(formatter, "Examples", self.examples)
        if any(isinstance(param, click.Option) for param in self.params):
            write_lines(formatter, "", ["Options may be written as Hydra's settings: lang=zh for --lang zh."])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options in both spellings."""
        return [*super().shell_complete(ctx, incomplete), *_completed(self, ctx, incomplete)]

    def _in_one_spelling(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options as `--key=value`, then `--` and what has no name, all of it checked.

        Raises:
            UsageError: An unknown or missing key, a key given twice, no value, one that is too long.
        """
        named = {str(param.name): param for param in self.params if not getattr(param, "is_flag", False)}
        first = next((name for name, param in named.items() if isinstance(param, click.Argument)), "")
        end = args.index("--") if "--" in args else len(args)
        values, others = dict[str, str](), list[str]()
        for key, word in [*self._keyed(ctx, args[:end], named), *((first, word) for word in args[end + 1 :])]:
            if key is None or (self.settings and key == first):
                others.append(word)
            else:
                _check_word(ctx, key or first, word, values)
                values[key or first] = word
        if set(HELP) & set(others):
            return ["--help"]
        self._check_given(ctx, values, named)
        options = [f"--{key}={value}" for key, value in values.items() if isinstance(named[key], click.Option)]
        plain = [value for key, value in values.items() if isinstance(named[key], click.Argument)]
        return [*options, "--", *others] if self.settings else [*others, *options, "--", *plain]

    def _check_given(self, ctx: click.Context, values: dict[str, str], named: dict[str, click.Parameter]) -> None:
        example = f", such as in `{self.examples[0].partition('    ')[0].rstrip()}`" if self.examples else ""
        for key, param in named.items():
            if param.required and key not in values:
                wanted = key.upper() if isinstance(param, click.Argument) else f"{key}=VALUE"
                raise click.UsageError(f"{key}: expected {wanted}{example}, got nothing", ctx)

    def _keyed(
        self, ctx: click.Context, args: Sequence[str], named: dict[str, click.Parameter]
    ) -> Iterator[tuple[str | None, str]]:
        """Each value with its key: an empty one where it has none, None where others judge the word."""
        dashed = {name: key for key, param in named.items() if isinstance(param, click.Option) for name in param.opts}
        keys = [key for key, param in named.items() if param.nargs == 1]
        options = [*dict.fromkeys(name for param in self.params for name in param.opts if name.startswith("-")), *HELP]
        words = iter(args)
        for word in words:
            key, equals, value = word.partition("=")
            if key in dashed:
                given = value if equals else next(words, None)
                if given is None:
                    raise click.UsageError(f"{dashed[key]}: expected {key} VALUE, got nothing", ctx)
                yield dashed[key], given
            elif equals and key in keys:
                yield key, value
            elif word.startswith("-") and not self.settings and key not in options:
                raise _unknown(key, word, options, ctx)
            elif not exists(word) and word in dashed.values():
                raise click.UsageError(f"{word}: expected {word}=VALUE, got nothing", ctx)
            elif self.settings or word.startswith("-"):
                yield None, word
            elif not exists(word) and equals and key.isidentifier():  # else it is a path, or a pattern of paths
                raise _unknown(key, word, keys, ctx)
            else:
                yield "", word


def _unknown(key: str, word: str, known: Sequence[str], ctx: click.Context) -> click.UsageError:
    from gradflow.checks import did_you_mean, shown
    from gradflow.commands.arguments import named

    name = key if key.startswith("--") else named(key)
    advice = did_you_mean(key, known)
    return click.UsageError(f"{name}: expected one of {', '.join(known)}, got {shown(word)}{advice}", ctx)


def _check_word(ctx: click.Context, key: str, value: str, values: dict[str, str]) -> None:
    from gradflow.checks import shown

    named = {str(param.name): param for param in ctx.command.params}
    if not key:
        raise click.UsageError(f"expected options alone, got {shown(value)}", ctx)
    if key in values:
        raise click.UsageError(f"{key}: expected one value, got {shown(values[key])} and {shown(value)}")
    if not value.strip() and (named[key].required or named[key].default):
        raise click.UsageError(f"{key}: expected {key}=VALUE, got nothing", ctx)
    if "\0" in value or len(value) > LONGEST:
        raise click.UsageError(f"{key}: expected a value of at most {LONGEST:,} characters, got {shown(value)}", ctx)


def _completed(command: click.Command, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Options as `key=value`: all values where they are known, else the key."""
    found = []
    for param in command.params:
        if isinstance(param, click.Option) and not param.is_flag:
            choices = param.type.choices if isinstance(param.type, click.Choice) else ("",)
            found += [f"{param.name}={choice}" for choice in choices]
    return [CompletionItem(word) for word in found if word.startswith(incomplete)]


def write_lines(formatter: click.HelpFormatter, title: str, lines: Sequence[str]) -> None:
    """Writes lines of help as they are, indented below a title."""
    if lines:
        formatter.write_paragraph()
        formatter.write(f"{title}:\n" if title else "")
        formatter.write("".join(f"{'  ' if title else ''}{line}\n" for line in lines))


def exists(path: str) -> bool:
    """Whether a path is there; what can be none is not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def is_folder(word: str, name: str) -> bool:
    """Whether a word among settings is the folder of runs; folders of runs are called cell=gru,clip=norm.

    Args:
        word: As it was typed.
        name: What the argument is called.

    >>> is_folder("outputs/compare", "path"), is_folder("path=a=b", "path"), is_folder("outputs/*clip=norm*", "path")
    (True, True, True)
    >>> is_folder("cell=gru", "path"), is_folder("-m", "path")
    (False, False)
    """
    key, equals, _ = word.partition("=")
    return exists(word) or key == name or not (equals or word.startswith(("-", "~"))) or bool(set(key) & set("*?"))


def runs_in(name: str, *, required: bool = True) -> Callable[[Any], Any]:
    """The first argument, the folder of runs; empty where it is left out and not required."""
    metavar = name.upper() if required else f"[{name.upper()}]"
    return click.argument(name, type=Folder(), metavar=metavar, required=required, default=None if required else "")


def word(name: str, default: str, text: str, choices: Sequence[str] = ()) -> Callable[[Any], Any]:
    """An option with a value; it may be empty where its default is.

    Args:
        name: Its key.
        default: Its value where it is left out.
        text: What `--help` says.
        choices: The values that it may have, if they are known.
    """
    kind = OneOf(choices) if choices else click.STRING
    return click.option(f"--{name}", default=default, show_default=bool(default), type=kind, help=text)


lang = word("lang", "en", "Language.", LANGUAGES)
length = word(
    "length", "", "Steps that the dependency spans which the network is to learn; known of gradflow's own tasks."
)
context = word("context", "slide", "What figures are for.", CONTEXTS)
theme = word("theme", "light", "Figures on white, or on black for a dark hall.", THEMES)
svg = word("svg", "paths", "Words in SVG files: drawn, or text to search and to edit.", ("paths", "text"))
out = word("out", "", "Folder that figures go to; figures/LANG (LANG-dark) in that of the runs, if left out.")


def number(text: str) -> Any:
    """A number as it is typed, None where nothing is; what is none stays as it is, for the library to say so."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return text


def start(command: click.Command, arguments: Sequence[str], name: str | None = None) -> None:
    """Runs a command and ends the program as it ends.

    Args:
        command: Of click.
        arguments: The command line without the program.
        name: What `--help` calls it; the script, if not given.

    Raises:
        SystemExit: If anything is wrong: with its status, and the message of wrong usage.
    """
    try:
        speak_any()
        if odd := what_is_no_text(arguments):
            raise Told(odd)
        command.main(list(arguments), prog_name=name, standalone_mode=False)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else name or ""
        message = error.format_message().rstrip(".")
        if not isinstance(error, Told):
            hint = f"`{where} --help`".replace("` ", "`") + " says what there is"
            message += f" {hint}" if message.endswith("?") else f"; {hint}"
        print(message, file=sys.stderr)
        wrong = SystemExit(message)
        wrong.code = WRONG
        raise wrong from None
