"""Arithmetic in YAML: `!!python/object/apply:eval ["[[x, x * 2**(1/3)] for x in [32, 64]]"]`, which never runs code.

Configs of anchor sizes are written so. The text is parsed, not executed, and may hold numbers, lists, + - * / **, and
`[... for x in [...]]`; there are no calls, attributes, strings or other names.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

_BINARY: dict[type[ast.operator], Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_MAX_LENGTH, _MAX_STEPS, _MAX_EXPONENT, _MAX_VALUE = 1000, 10_000, 64, 1e15


class _Evaluation:
    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise ValueError(f"takes more than {_MAX_STEPS} steps")
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return _number(node.value)
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self.value(element, names) for element in node.elts]
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](_number(self.value(node.operand, names)))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = _number(self.value(node.left, names)), _number(self.value(node.right, names))
            if isinstance(node.op, ast.Pow) and abs(right) > _MAX_EXPONENT:
                raise ValueError(f"an exponent of {right:g} is too large")
            return _number(_BINARY[type(node.op)](left, right))
        if isinstance(node, ast.ListComp) and len(node.generators) == 1:
            return self._comprehension(node.elt, node.generators[0], names)
        raise ValueError(f"'{ast.unparse(node)}' is more than numbers, lists, + - * / ** and '[... for x in [...]]'")

    def _comprehension(self, element: ast.expr, loop: ast.comprehension, names: dict[str, Any]) -> list:
        if not isinstance(loop.target, ast.Name) or loop.ifs or loop.is_async:
            raise ValueError("a comprehension has one name and no condition: '[... for x in [...]]'")
        over = self.value(loop.iter, names)
        if not isinstance(over, list):
            raise ValueError(f"'{ast.unparse(loop.iter)}' is not a list")
        return [self.value(element, {**names, loop.target.id: one}) for one in over]


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)) or not abs(value) <= _MAX_VALUE:
        raise ValueError(f"{type(value).__name__} in place of a number, or a number beyond {_MAX_VALUE:g}")
    return value


def evaluate_arithmetic(text: str) -> Any:
    """The number or (nested) list that an expression stands for.

    Raises:
        ValueError: it holds anything but the above, is no Python expression, or is too long, deep or large.
    """
    try:
        if len(text) > _MAX_LENGTH:
            raise ValueError(f"longer than {_MAX_LENGTH} characters")
        return _Evaluation().value(ast.parse(text.strip(), mode="eval").body, {})
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"cannot evaluate {text[:80]!r}: {error or type(error).__name__}") from error
