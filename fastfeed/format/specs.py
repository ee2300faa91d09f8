"""Columns of a schema as the native core wants them.

Apart from schema.py, so that the schema, and with it the reference reader, reaches no compiled module.
"""

from __future__ import annotations

from fastfeed._native.frames import ColumnSpec
from fastfeed.format.schema import Kind, Schema


def column_specs(schema: Schema) -> list[ColumnSpec]:
    """One spec a column, in column order: what `FrameLayout` and the reader take."""
    return [
        ColumnSpec(
            name=name,
            kind=int(column.kind),
            codec=int(column.storage),
            nullable=column.nullable,
            item_size=column.item_bytes,
            step_size=column.item_bytes * column.step_items if column.kind is Kind.ARRAY else 1,
            fixed_size=column.fixed_bytes,
        )
        for name, column in schema.items()
    ]
