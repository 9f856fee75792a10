"""Change values in a YAML file and leave every comment and blank line where it is."""

from __future__ import annotations

from typing import Any

import yaml


def with_value(text: str, keys: tuple[str, ...], value: Any) -> str:
    """The text with `value` under `keys`, e.g. `("offers", "gpus")`; what is missing of the mappings is added.

    Args:
        text: YAML whose top is a mapping, written line by line.
        keys: Where the value stands, outermost first.
        value: Anything that YAML can hold.
    """
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if top is None:
        return f"{text}{keys[0]}: {_flow(_nested(keys[1:], value))}\n"
    return _changed(text, top, keys, value)


def positions(text: str) -> dict[tuple[str, ...], int]:
    """The line, counted from 1, of every key of nested mappings."""
    found: dict[tuple[str, ...], int] = {}

    def visit(node: Any, above: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, each in node.value:
                place = (*above, str(key.value))
                found[place] = key.start_mark.line + 1
                visit(each, place)

    visit(yaml.compose(text, Loader=yaml.SafeLoader), ())
    return found


def _changed(text: str, mapping: yaml.MappingNode, keys: tuple[str, ...], value: Any) -> str:
    found = next((pair for pair in mapping.value if pair[0].value == keys[0]), None)
    if found is None:
        return _added(text, mapping, keys[0], _nested(keys[1:], value))
    key, node = found
    if len(keys) > 1 and isinstance(node, yaml.MappingNode) and node.value:
        return _changed(text, node, keys[1:], value)
    start, end = node.start_mark.index, node.end_mark.index
    if start == end:  # nothing stands there: `key:`
        start = end = text.index(":", key.end_mark.index) + 1
    # The end of a block is where the next thing begins; the space between belongs to that.
    end = start + len(text[start:end].rstrip())
    written = _flow(_nested(keys[1:], value))
    if not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        # A block begins on a line of its own, after the colon and perhaps a comment.
        start = text.index(":", key.end_mark.index) + 1
    return f"{text[:start]}{'' if text[:start].endswith(' ') else ' '}{written}{text[end:]}"


def _added(text: str, mapping: yaml.MappingNode, key: str, value: Any) -> str:
    line = f"{key}: {_flow(value)}"
    if mapping.flow_style:
        end = mapping.end_mark.index - 1
        return f"{text[:end]}{', ' if mapping.value else ''}{line}{text[end:]}"
    last = mapping.value[-1][1]
    end = last.start_mark.index + len(text[last.start_mark.index : last.end_mark.index].rstrip())
    end = text.find("\n", end)
    if end < 0:
        text, end = f"{text}\n", len(text)
    return f"{text[:end]}\n{' ' * mapping.start_mark.column}{line}{text[end:]}"


def _nested(keys: tuple[str, ...], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _flow(value: Any) -> str:
    """The value on one line."""
    for readable in (True, False):  # some characters that YAML takes for a line's end survive only as escapes
        dumped = yaml.safe_dump(
            value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=readable
        )
        dumped = dumped.removesuffix("\n").removesuffix("\n...").strip()
        if yaml.safe_load(dumped) == value:
            break
    return dumped
