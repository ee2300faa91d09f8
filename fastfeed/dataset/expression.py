"""Filter expressions: `"label < 10 and image.width >= 256"`, compiled against a dataset's lanes.

The text is parsed as a Python expression and only what is listed here is accepted; nothing is ever executed as Python.

    comparisons     <  <=  ==  !=  >=  >    chained as in Python; one side at least has a lane
    membership      label in (1, 2, 3)      label not in [4]
    nulls           label is null           label is not null
    logic           and  or  not  ( )       lanes of truth values stand for themselves
    arithmetic      +  -  *  /              whole numbers as 64-bit integers, "/" always as float64
    names           label   image.width   caption.bytes   lane("a name that is no identifier")

As in SQL, whatever is computed from a null is null, and a row is kept only where the whole is true. Whole numbers are
compared exactly; a number beside a float lane is taken with that lane's precision.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastfeed.dataset.lanes import checked_lane
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema

# Room for a few thousand numbers behind "in"; a longer list is a selection (Dataset.select).
EXPRESSION_CHARS_MAX = 1 << 16
# Deeper than anyone writes, far from the interpreter's own limit.
DEPTH_MAX = 64
# What a whole number in an expression may have at most: those of decimal128.
DIGITS_MAX = 38

Number = int | float
_COMPARE: dict[type, str] = {ast.Lt: "less", ast.LtE: "less_equal", ast.Eq: "equal", ast.NotEq: "not_equal",
                             ast.GtE: "greater_equal", ast.Gt: "greater"}  # fmt: skip
_ARITHMETIC: dict[type, str] = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_FOLD: dict[str, Callable[[Number, Number], Number]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv}  # fmt: skip
_WIDE = pa.decimal128(20, 0)


@dataclass(frozen=True, slots=True)
class _Term:
    """Part of an expression: a constant, or something computed from lanes."""

    text: str
    is_truth: bool
    constant: Number | bool | None = None
    compute: Callable[[pa.RecordBatch], pa.Array] | None = None

    def of(self, lanes: pa.RecordBatch) -> pa.Array:
        assert self.compute is not None  # constants are folded away before
        return self.compute(lanes)


class Expression:
    """A checked expression. `evaluate` says which rows of a record batch of lanes it keeps."""

    def __init__(self, text: str, schema: AnySchema) -> None:
        """ConfigError where `text` is no expression over the lanes of `schema`."""
        self.text = text
        if not isinstance(text, str) or len(text) > EXPRESSION_CHARS_MAX:
            size = f"{len(text)} characters" if isinstance(text, str) else f"a {type(text).__name__}"
            raise ConfigError(f"a filter is a str of at most {EXPRESSION_CHARS_MAX} characters, not {size}.")
        self._schema = schema
        try:
            root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._refused(f"it does not parse ({error})") from error
        try:
            term = self._term(root, 0)
        except RecursionError as error:  # of showing a part that is nested deeper than DEPTH_MAX
            raise self._refused(f"it is nested more than {DEPTH_MAX} deep") from error
        if not term.is_truth or term.compute is None:
            raise self._refused(f"{term.text!r} is neither true nor false; compare it with something")
        self._compute = term.compute

    def evaluate(self, lanes: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """True where the expression is true; not where it is false or null."""
        try:
            found = self._compute(lanes).fill_null(False)
        except pa.ArrowInvalid as error:
            raise self._refused(f"a value is too large to compute with ({error})") from error
        kept: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
        return kept

    # --- compiling ----------------------------------------------------------------------------------------------

    def _term(self, node: ast.expr, depth: int) -> _Term:
        if depth > DEPTH_MAX:
            raise self._refused(f"it is nested more than {DEPTH_MAX} deep")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute() | ast.Call():
                return self._name(node)
            case ast.BoolOp():
                function = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
                return self._logic(node, function, [self._truth(each, depth) for each in node.values])
            case ast.UnaryOp(op=ast.Not()):
                inner = self._truth(node.operand, depth)
                return _Term(_text(node), True, compute=lambda lanes: pc.invert(inner.of(lanes)))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                return self._signed(node, self._number(node.operand, depth))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                sides = self._number(node.left, depth), self._number(node.right, depth)
                return self._computed(_ARITHMETIC[type(node.op)], *sides, _text(node))
            case ast.Compare():
                return self._compared(node, depth)
        raise self._refused(f"{_text(node)!r} ({type(node).__name__}) is not in its language")

    def _constant(self, node: ast.Constant) -> _Term:
        value = node.value
        if isinstance(value, str | bytes):
            raise self._refused(f"{_text(node)} is a text, and no lane holds texts: compare numbers, or a column's "
                                "size by its lane 'name.bytes'")  # fmt: skip
        if not isinstance(value, bool | int | float) or (type(value) is int and abs(value) >= 10**DIGITS_MAX):
            raise self._refused(f"{_text(node)} is no number of at most {DIGITS_MAX} digits")
        return _Term(_text(node), isinstance(value, bool), constant=value)

    def _name(self, node: ast.expr) -> _Term:
        name = self._dotted(node)
        if name in ("true", "false"):
            return _Term(name, True, constant=name == "true")
        field = checked_lane(self._schema, name)
        return _Term(name, pa.types.is_boolean(field.type), compute=lambda lanes: lanes.column(name))

    def _dotted(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value, attr=last):
                return f"{self._dotted(value)}.{last}"
            case ast.Call(func=ast.Name(id="lane"), args=[ast.Constant(value=str() as name)], keywords=[]):
                return name
        raise self._refused(f"{_text(node)!r} is no name of a lane")

    def _truth(self, node: ast.expr, depth: int) -> _Term:
        term = self._term(node, depth + 1)
        if not term.is_truth or term.compute is None:
            raise self._refused(f"{term.text!r} is neither true nor false there; compare it with something")
        return term

    def _number(self, node: ast.expr, depth: int) -> _Term:
        term = self._term(node, depth + 1)
        if term.is_truth:
            raise self._refused(f"{term.text!r} is true or false, and no number")
        return term

    def _logic(self, node: ast.expr, function: Callable[..., pa.Array], terms: list[_Term]) -> _Term:
        def compute(lanes: pa.RecordBatch) -> pa.Array:
            found = terms[0].of(lanes)
            for term in terms[1:]:
                found = function(found, term.of(lanes))
            return found

        return _Term(_text(node), True, compute=compute)

    def _signed(self, node: ast.UnaryOp, term: _Term) -> _Term:
        if isinstance(node.op, ast.UAdd):
            return term
        if term.constant is not None:
            return _Term(_text(node), False, constant=-term.constant)
        return self._computed("subtract", _Term("0", False, constant=0), term, _text(node))

    def _computed(self, function: str, left: _Term, right: _Term, text: str) -> _Term:
        if left.constant is not None and right.constant is not None:
            return _Term(text, False, constant=self._folded(function, left.constant, right.constant, text))

        def compute(lanes: pa.RecordBatch) -> pa.Array:
            values = [_operand(each, lanes) for each in (left, right)]
            if function == "divide" or any(_is_float(each) for each in values):
                return pc.call_function(function, [_cast(each, pa.float64()) for each in values])
            return pc.call_function(f"{function}_checked", [_cast(each, pa.int64()) for each in values])

        return _Term(text, False, compute=compute)

    def _folded(self, function: str, left: Number, right: Number, text: str) -> Number:
        try:
            folded: Number = _FOLD[function](left, right)
        except (ZeroDivisionError, OverflowError) as error:
            raise self._refused(f"{text!r}: {error}") from error
        if isinstance(folded, int) and abs(folded) >= 10**DIGITS_MAX:
            raise self._refused(f"{text!r} has more than {DIGITS_MAX} digits")
        return folded

    def _compared(self, node: ast.Compare, depth: int) -> _Term:
        parts = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._comparison(left, op, right, depth))
            left = right
        return parts[0] if len(parts) == 1 else self._logic(node, pc.and_kleene, parts)

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> _Term:
        text = f"{_text(left)} … {_text(right)}"
        if isinstance(op, ast.Is | ast.IsNot):
            return self._null_test(left, op, right, depth)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, op, right, depth)
        sides = self._term(left, depth + 1), self._term(right, depth + 1)
        if sides[0].is_truth != sides[1].is_truth:
            raise self._refused(f"{sides[0].text!r} and {sides[1].text!r} cannot be compared: one is a number, the "
                                "other true or false")  # fmt: skip
        if all(side.compute is None for side in sides):
            raise self._refused(f"{text!r} compares no lane")
        function = _COMPARE[type(op)]
        return _Term(text, True, compute=lambda lanes: pc.call_function(
            function, _aligned(_operand(sides[0], lanes), _operand(sides[1], lanes))))  # fmt: skip

    def _null_test(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> _Term:
        is_null = isinstance(right, ast.Name) and right.id == "null"
        if not (is_null or (isinstance(right, ast.Constant) and right.value is None)):
            raise self._refused(f"'is {_text(right)}': only 'is null' and 'is not null' are there; compare with ==")
        term = self._term(left, depth + 1)
        if term.compute is None:
            raise self._refused(f"{term.text!r} is no lane")
        function = pc.is_valid if isinstance(op, ast.IsNot) else pc.is_null
        return _Term(f"{term.text} is null", True, compute=lambda lanes: function(term.of(lanes)))

    def _membership(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> _Term:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise self._refused(f"behind 'in' stands a list like (1, 2), not {_text(right)!r}")
        values = [self._number(each, depth).constant for each in right.elts]
        term = self._number(left, depth)
        if term.compute is None or None in values:
            raise self._refused(f"'{term.text} in …': a lane stands before 'in', and numbers behind it")
        negated = isinstance(op, ast.NotIn)

        def compute(lanes: pa.RecordBatch) -> pa.Array:
            found = _is_in(term.of(lanes), [value for value in values if value is not None])
            return pc.invert(found) if negated else found

        return _Term(f"{term.text} in …", True, compute=compute)

    def _refused(self, why: str) -> ConfigError:
        shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}…"
        return ConfigError(f"filter {shown!r}: {why}. See docs/views.md for what a filter may say.")


def _text(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _operand(term: _Term, lanes: pa.RecordBatch) -> Any:
    """An Arrow array (half floats as float32, which Arrow computes with), or the constant."""
    if term.compute is None:
        return term.constant
    values = term.of(lanes)
    return values.cast(pa.float32()) if pa.types.is_float16(values.type) else values


def _is_float(value: Any) -> bool:
    return isinstance(value, float) if not isinstance(value, pa.Array) else bool(pa.types.is_floating(value.type))


def _cast(value: Any, to: pa.DataType) -> Any:
    if isinstance(value, pa.Array):
        # Whole numbers above 2^53 become the nearest float64.
        return value.cast(to, safe=not pa.types.is_floating(to))
    return pa.scalar(value, to)


def _aligned(left: Any, right: Any) -> list[Any]:
    """Both sides as types that Arrow compares exactly, constants as weak as numpy's."""
    array = left if isinstance(left, pa.Array) else right
    if pa.types.is_boolean(array.type):
        return [_cast(each, pa.bool_()) for each in (left, right)]
    if _is_float(left) or _is_float(right):
        floats = {each.type for each in (left, right) if isinstance(each, pa.Array)}
        to = pa.float32() if floats == {pa.float32()} else pa.float64()
        return [_cast(each, to) for each in (left, right)]
    narrow = all(
        -(1 << 63) <= each < 1 << 63 if isinstance(each, int) else each.type != pa.uint64() for each in (left, right)
    )
    if narrow:
        return [_cast(each, pa.int64()) for each in (left, right)]
    return [each.cast(_WIDE) if isinstance(each, pa.Array) else pa.scalar(Decimal(each), pa.decimal128(DIGITS_MAX, 0))
            for each in (left, right)]  # fmt: skip


def _is_in(values: pa.Array, wanted: list[Number]) -> pa.Array:
    """Null where `values` is. Numbers that the lane's type cannot hold equal nothing."""
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
        known = pa.array([float(each) for each in wanted], values.type)
    else:
        info = np.iinfo(values.type.to_pandas_dtype())
        whole = [int(each) for each in wanted if each == each // 1 and info.min <= each <= info.max]
        known = pa.array(whole, values.type)
    return pc.if_else(pc.is_valid(values), pc.is_in(values, value_set=known), pa.scalar(None, pa.bool_()))
