from typing import Any

def says_the_same(signature: Any, doc: str | None, snapshot: list[tuple[Any, Any]]) -> bool: ...
def stores_of_examples(demos: list[Any], kinds: frozenset[type]) -> list[dict[str, Any]] | None: ...
def holds_the_same(
    dicts: list[dict[str, Any]],
    dict_copies: list[dict[str, Any]],
    lists: list[list[Any]],
    list_copies: list[list[Any]],
    objects: list[Any],
) -> bool: ...
