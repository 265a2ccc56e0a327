"""The directive `configuration`: the keys of a table of recorder.toml, from the classes of Config.

Name, default, allowed values and meaning stand once, in `kline_trio/config`. What is allowed is
what the loader itself says when it refuses a value.
"""

import ast
import inspect
import json
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import attrs
from sphinx.util.docutils import SphinxDirective

from kline_trio.config.model import Config
from kline_trio.storage.layout import Layout

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_WANTED = " is wanted"


@attrs.frozen
class Key:
    """A key of recorder.toml."""

    name: str
    """With its table: `store.path`."""
    default: str
    """As TOML writes it."""
    allowed: str
    meaning: str

    def as_markdown(self) -> str:
        """Return the description of the key, to which other pages can link."""
        head = f"::::{{confval}} {self.name}\n:type: {self.allowed}\n:default: {self.default}\n\n"
        # The docstring is about the field of a class.
        return f"{head}{self.meaning.replace('; None:', '; not set:')}\n::::\n"


def tables() -> dict[str, Any]:
    """Return the tables of recorder.toml that have a class, each with its defaults."""
    config: dict[str, Any] = attrs.fields_dict(Config)
    found = {
        name: field.default
        for name, field in config.items()
        if attrs.has(type(field.default)) and name not in ("streams", "patterns")
    }
    made = config["endpoints"].default.factory()
    return found | {f"endpoints.{market}": hosts for market, hosts in made.items()}


def keys_of(table: str) -> list[Key]:
    """Return the keys of a table, in the order of its class."""
    if table == "endpoints":
        field = attrs.fields_dict(Config)["archive"]
        meaning = meanings(Config)["archive"]
        return [_key("endpoints.archive", field, field.default, meaning)]
    defaults = tables()[table]
    cls = type(defaults)
    texts = meanings(cls)
    return [
        _key(f"{table}.{field.name}", field, getattr(defaults, field.name), texts.get(field.name))
        for field in attrs.fields(cls)
    ]


def meanings(cls: type) -> dict[str, str]:
    """Return the docstring below each field of a class."""
    [tree] = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _key(name: str, field: Any, default: object, meaning: str | None) -> Key:  # noqa: ANN401
    if not meaning:
        raise ValueError(f"{name} has no docstring below it")
    return Key(name, _default_of(default), _allowed_of(field), meaning)


def _default_of(value: object) -> str:
    return "not set" if value in (None, "", ()) else f"`{as_toml(value)}`"


def as_toml(value: object) -> str:
    """Return a value of a configuration as recorder.toml writes it."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:.15g}"
        case tuple() if len(value) == 1:
            return as_toml(value[0])
        case tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case Layout():
            return json.dumps(value.template)
        case Path() | str():
            return json.dumps(str(value))
    raise TypeError(f"no TOML is known for {value!r}")


def _allowed_of(field: Any) -> str:  # noqa: ANN401 - an attribute of attrs, of any type
    """Return what the loader wants, in the words in which it refuses anything else."""
    try:
        field.validator.from_toml(object())
    except ValueError as error:
        wanted = str(error).partition(_WANTED)[0].rstrip(",")
    else:
        raise ValueError(f"{field.name} takes anything")
    if wanted != "a text in quotes":
        return wanted
    if "Path" in str(field.type):
        return "a path in quotes"
    return f"{wanted}, or a list of texts" if "tuple" in str(field.type) else wanted


class ConfigurationDirective(SphinxDirective):
    """Describe each key of the table that is named."""

    required_arguments = 1

    def run(self) -> list[Any]:
        """Return the description of the table and of its keys."""
        table = self.arguments[0]
        for module in {inspect.getsourcefile(type(one)) for one in tables().values()}:
            self.env.note_dependency(str(module))
        defaults = tables().get(table)
        about = inspect.cleandoc(type(defaults).__doc__ or "") if defaults is not None else ""
        text = "\n".join([about, "", *(key.as_markdown() for key in keys_of(table))])
        return self.parse_text_to_nodes(text)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("configuration", ConfigurationDirective)
    return {"parallel_read_safe": True}
