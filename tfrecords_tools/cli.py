"""Command lines out of frozen dataclasses: one field a flag, checked by jsonargparse."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Literal,
    NoReturn,
    Optional,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import PeerError, StoppedError, UsageError, UserError

if TYPE_CHECKING:
    from rich.console import Console

Config = TypeVar("Config")
T = TypeVar("T")

# Seconds that a rank without a word waits before it ends: launchers kill all others, the one that speaks too.
_GRACE = 2.0

# One of these tells a process its rank before Horovod is up: horovodrun, OpenMPI, PMIx, Slurm.
_RANK_VARIABLES = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
# Any of these says that a launcher started several of us: horovodrun, OpenMPI's mpirun, srun.
_SIZE_VARIABLES = ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    group: Optional[str] = None,
    positional: bool = False,
    nargs: Any = None,
    metavar: Any = None,
    short: Optional[str] = None,
) -> Any:
    """Declares a field of a config dataclass as a flag (or a positional argument) with its help.

    Without a default the flag is required. Fields of type bool become switches: `--flag`, `--no-flag`. `short` is a
    second name, as "-o".
    """
    metadata = {"help": help, "group": group, "positional": positional, "nargs": nargs, "metavar": metavar}
    metadata["short"] = short
    return dataclasses.field(default=default, metadata=metadata)


def parse(config: type[Config], prog: str, description: str, argv: Optional[Sequence[str]] = None) -> Config:
    """Fills a config dataclass from the command line and, with `--config`, from YAML files.

    Flags given after `--config` win over the file. Unknown keys and flags end with exit code 2.

    Args:
        config: a frozen dataclass whose fields were declared with `option`.
        prog: what the user typed, for the usage line.
        description: what the command does, for `--help`.
        argv: arguments; `sys.argv[1:]` when None.
    """
    from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter):
        def _get_help_string(self, action: Any) -> str:
            # The types of Python say nothing to a user, nor does a default of nothing.
            none = (
                action.default is False or action.default in (None, [], SUPPRESS) or not action.option_strings
            )
            return (action.help or "") + ("" if none else " (default: %(default)s)")

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Optional[Exception] = None) -> NoReturn:
            refused = UsageError(message, remedy=f"see: {prog} --help")
            raise refused if is_first_rank() else PeerError(2)

    parser = Parser(prog=prog, description=description, formatter_class=Formatter)
    config_help = "YAML file with any of these flags, as flag_name: value"
    parser.add_argument("--config", action=ActionConfigFile, help=config_help)
    groups: dict[Optional[str], Any] = {None: parser}
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # a dataclass type, which TypeVar cannot say
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], field, hints[field.name])
    values = vars(parser.parse_args(argv))
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    return config(**{name: _frozen(values[name]) for name in names})


def _add(target: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    """Adds one field; jsonargparse checks its value against the type hint."""
    from jsonargparse import ActionYesNo

    meta = field.metadata
    flag = field.name if meta["positional"] else "--" + field.name.replace("_", "-")
    kwargs: dict[str, Any] = {"help": meta["help"]}
    if field.default is dataclasses.MISSING:
        kwargs.update({} if meta["positional"] else {"required": True})
    elif not meta["positional"]:  # one that may be left out has nargs="?", and None by itself
        # jsonargparse checks the elements of a list one by one, in place.
        kwargs["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    if hint is bool:
        target.add_argument(flag, action=ActionYesNo(no_prefix="no-"), **kwargs)
        return
    if get_origin(hint) is Literal:
        kwargs.update(type=str, choices=get_args(hint))
    elif get_origin(hint) is tuple:
        kwargs["type"] = get_args(hint)[0]
    else:
        kwargs["type"] = hint
    kwargs.update({key: meta[key] for key in ("nargs", "metavar") if meta[key] is not None})
    target.add_argument(*([meta["short"]] if meta["short"] else []), flag, **kwargs)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def run(main: Callable[[], Optional[int]]) -> NoReturn:
    """Runs a command and exits: 0 done, 1 data error, 2 usage error, 75 to go on later, 130 interrupted."""
    try:
        code = main() or 0
        sys.stdout.flush()  # here, where a closed pipe is still caught
        sys.exit(code)
    except PeerError as error:
        time.sleep(_GRACE)
        sys.exit(error.exit_code)
    except StoppedError as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # `... | head` closed the pipe: nothing is wrong, but Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk, a vanished mount: nothing a traceback would explain
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def console() -> Console:
    """Returns where tables are printed: as wide as the terminal, 140 columns into files and pipes."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


def once(action: Callable[[], T]) -> T:
    """Does what all ranks do alike before they have joined; if it fails, the first of them alone says why."""
    try:
        return action()
    except UserError as error:
        if is_first_rank():
            raise
        raise PeerError(error.exit_code) from error


def is_first_rank() -> bool:
    """Whether this process is rank 0 of its launcher, or was started by none: the one that talks."""
    return all(os.environ.get(name, "0") == "0" for name in _RANK_VARIABLES)


def launched() -> int:
    """Returns how many processes the launcher of this one has started, 1 without any."""
    return max(int(os.environ.get(name, "1") or 1) for name in _SIZE_VARIABLES)


def existing_folder(path: Path, what: str) -> Path:
    """Returns `path` if it is a folder, else raises a UsageError that names it."""
    if not path.is_dir():
        problem = (
            f"no such folder for {what}" if not path.exists() else f"not a folder, but {what} must be one"
        )
        raise UsageError(problem, path=path)
    return path


def new_folder(path: Path) -> None:
    """Makes a folder for results, or raises a UsageError if it cannot be made or holds something."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        filled = any(path.iterdir())
    except OSError as error:
        raise UsageError(f"cannot be made: {error.strerror or error}", path=path) from error
    if filled:
        remedy = "name another folder, or delete this one: without manifest.json it is left from an interrupted run"
        raise UsageError("is not empty", path=path, remedy=remedy)
