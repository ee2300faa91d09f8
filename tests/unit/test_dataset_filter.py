"""Filter expressions: what they keep, with nulls and every type of lane, and what is refused how."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastfeed as ff
from fastfeed.dataset.expression import DEPTH_MAX, EXPRESSION_CHARS_MAX, Expression
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema, StreamSchema

SCHEMA = ff.Schema({
    "label": ff.Scalar("int16"),
    "score": ff.Scalar("float32", nullable=True),
    "half": ff.Scalar("float16"),
    "big": ff.Scalar("uint64"),
    "flag": ff.Scalar("bool", nullable=True),
    "image": ff.Image(nullable=True),
    "caption": ff.Text(),
    "my-id": ff.Scalar("int64"),
    "vector": ff.Tensor("float32", (2,)),
})  # fmt: skip
ROWS: dict[str, list[object]] = {
    "label": [0, 1, 2, -3, 300],
    "score": [0.1, None, 2.5, -1.0, float("nan")],
    "half": [0.5, 1.0, 1.5, 2.0, 2.5],
    "big": [0, 1, 2**53 + 1, 2**63, 2**64 - 1],
    "flag": [True, False, None, True, False],
    "image.width": [10, 256, None, 4_000_000_000, 1],
    "image.height": [10, 20, None, 4_000_000_000, 1],
    "image.channels": [3, 3, None, 3, 1],
    "image.bytes": [5, 6, None, 7, 8],
    "caption.bytes": [0, 5, 10, 15, 20],
    "my-id": [7, 8, 9, 2**53, 2**53 + 1],
}
LANES = pa.RecordBatch.from_arrays([pa.array(ROWS[field.name], field.type) for field in SCHEMA.lanes],
                                   schema=SCHEMA.lanes)  # fmt: skip


def kept(expression: str, lanes: pa.RecordBatch = LANES, schema: AnySchema = SCHEMA) -> list[int]:
    return [row for row, keep in enumerate(Expression(expression, schema).evaluate(lanes)) if keep]


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("label < 2", [0, 1, 3]),
        ("0 <= label < 2", [0, 1]),
        ("2 > label", [0, 1, 3]),
        ("label == 300", [4]),
        ("label == 1.0", [1]),
        ("label < 0.5", [0, 3]),
        ("label < 1000000", [0, 1, 2, 3, 4]),
        ("label != -3", [0, 1, 2, 4]),
        ("label in (1, 2.0, 2.5, 70000)", [1, 2]),
        ("label not in [1, 2]", [0, 3, 4]),
        ("score == 0.1", [0]),
        ("score in (0.1, 2.5)", [0, 2]),
        ("score not in (0.1, 2.5)", [3, 4]),
        ("not score < 1", [2, 4]),
        ("score is null", [1]),
        ("score is not None and score != score", [4]),
        ("half >= 1.5", [2, 3, 4]),
        ("half in (0.5,)", [0]),
        ("half * 2 == 3", [2]),
        ("big == 9007199254740993", [2]),
        ("big > 9223372036854775807", [3, 4]),
        ("big >= -1", [0, 1, 2, 3, 4]),
        ("big < 18446744073709551616", [0, 1, 2, 3, 4]),
        ("big > label", [2, 3, 4]),
        ("big > 1e10", [2, 3, 4]),
        ("lane('my-id') == 9007199254740993", [4]),
        ("lane('my-id') < 8.5", [0, 1]),
        ("flag", [0, 3]),
        ("not flag", [1, 4]),
        ("flag == true", [0, 3]),
        ("flag != True", [1, 4]),
        ("flag == false or flag is null", [1, 2, 4]),
        ("image.width >= 256", [1, 3]),
        ("image.width * image.channels == 30", [0]),
        ("image.width / image.height == 1", [0, 3, 4]),
        ("image.width - 300 < 0", [0, 1, 4]),
        ("-label == 3 or +label == 2", [2, 3]),
        ("caption.bytes < 2 * 3", [0, 1]),
        ("label < 10 and (caption.bytes > 4 or flag)", [0, 1, 2, 3]),
        ("score < 1 or label == 1", [0, 1, 3]),
        ("  label==1\n", [1]),
    ],
)
def test_what_an_expression_keeps(expression: str, rows: list[int]) -> None:
    assert kept(expression) == rows


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("lable < 2", "there is no lane 'lable': no column has it. Lanes of this dataset: .'label', 'score'"),
        ("caption == 3", "column 'caption' itself is none, but it has .'caption.bytes'."),
        ("vector > 1", "column 'vector' has none"),
        ("label", "'label' is neither true nor false; compare it"),
        ("true", "'true' is neither true nor false"),
        ("label and flag", "'label' is neither true nor false there"),
        ("flag < 3", "one is a number, the other true or false"),
        ("flag + 1 < 3", "'flag' is true or false, and no number"),
        ("label == 'cat'", "no lane holds texts"),
        ("1 < 2", "compares no lane"),
        ("label < 1/0", "division by zero"),
        ("label < 1e300 * 10", "a number of float64|x"),
        ("label <", "does not parse"),
        ("label = 3", "does not parse"),
        ("label < 3; flag", "does not parse"),
        ("label is 3", "only 'is null' and 'is not null'"),
        ("3 is null", "'3' is no lane"),
        ("label in 3", "behind 'in' stands a list"),
        ("label in (caption.bytes,)", "numbers behind it"),
        ("3 in (1, 2)", "a lane stands before 'in'"),
        ("__import__('os').system('true')", "is no name of a lane"),
        ("lane('label', 3) < 2", "is no name of a lane"),
        ("label.__class__ == 3", "there is no lane 'label.__class__'"),
        ("(lambda: 1) == 2", r"\(Lambda\) is not in its language"),
        ("label % 2 == 0", r"\(BinOp\) is not in its language"),
        ("label == 3j", "is no number"),
        ("label == None", "is no number"),
        ("label == 1" + "0" * 38, "at most 38 digits"),
        ("label == 9" + "9" * 37 + " * 10", "more than 38 digits"),
        ("not " * (DEPTH_MAX + 1) + "flag", "nested more than 64 deep"),
        ("(" * 300 + "flag" + ")" * 300, "does not parse"),
        ("x" * (EXPRESSION_CHARS_MAX + 1), "at most 65536 characters"),
    ],
)
def test_what_is_refused_and_why(expression: str, message: str) -> None:
    if message.endswith("|x"):  # a float is a float, however large
        assert kept(expression) == list(range(5))
        return
    with pytest.raises(ConfigError, match=message):
        Expression(expression, SCHEMA)


def test_something_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a int"):
        Expression(3, SCHEMA)  # type: ignore[arg-type]


def test_values_that_64_bits_do_not_hold_are_an_error_and_not_a_wrong_answer() -> None:
    with pytest.raises(ConfigError, match=r"filter 'image.width \* image.height > 3': a value is too large"):
        kept("image.width * image.height > 3")


def test_documents_of_a_stream_have_the_number_of_their_tokens() -> None:
    lanes = pa.RecordBatch.from_arrays([pa.array([3, 0, 9], pa.uint32())], names=["tokens.count"])
    assert kept("tokens.count >= 3", lanes, StreamSchema("uint16")) == [0, 2]


NAMES = st.sampled_from(["label", "image.width", "big", "score", "caption.bytes"])
ATOMS = st.one_of(NAMES, st.sampled_from(["3", "2.5", "-1"]))


@settings(max_examples=150, deadline=None)
@given(st.recursive(
    st.builds(lambda a, op, b: f"{a} {op} {b}", NAMES, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), ATOMS),
    lambda inner: st.one_of(st.builds(lambda a, op, b: f"({a} {op} {b})", inner, st.sampled_from(["and", "or"]), inner),
                            st.builds(lambda a: f"not ({a})", inner)),
    max_leaves=6))  # fmt: skip
def test_any_logic_over_comparisons_is_the_three_valued_one_of_a_plain_interpreter(expression: str) -> None:
    names = [name for name in ("image.width", "caption.bytes", "label", "score", "big") if name in expression]
    expected = []
    for row in range(5):
        text = expression
        for name in names:
            value = ROWS[name][row]
            text = text.replace(name, f"V({value!r})" if value == value else "V(float('nan'))")
        expected.append(text)
    assert kept(expression) == [row for row, text in enumerate(expected) if three_valued(text) is True]


class V:
    """A value that may be null: comparisons with null give None."""

    def __init__(self, value: object) -> None:
        self.value = value


def three_valued(text: str) -> bool | None:
    """Evaluate the text of one row: values are V(…), logic is Kleene's."""
    import ast
    import operator

    compare = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq, ast.NotEq: operator.ne,
               ast.GtE: operator.ge, ast.Gt: operator.gt}  # fmt: skip

    def value(node: ast.expr) -> object:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "V":
            inner = node.args[0]
            return float("nan") if isinstance(inner, ast.Call) else ast.literal_eval(inner)
        return ast.literal_eval(node)

    def truth(node: ast.expr) -> bool | None:
        if isinstance(node, ast.UnaryOp):
            inner = truth(node.operand)
            return None if inner is None else not inner
        if isinstance(node, ast.BoolOp):
            sides = [truth(each) for each in node.values]
            decisive = isinstance(node.op, ast.Or)
            return decisive if decisive in sides else None if None in sides else not decisive
        assert isinstance(node, ast.Compare)
        left, right = value(node.left), value(node.comparators[0])
        return None if left is None or right is None else bool(compare[type(node.ops[0])](left, right))

    return truth(ast.parse(text, mode="eval").body)
