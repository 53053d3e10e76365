"""The types of fields in declarations, and the base of classes that hold them."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator


def _of_no_shadow(name: str) -> str:
    if name.endswith("_shadow"):
        raise ValueError("a name does not end in _shadow: the queue of a new model has such a name")
    return name


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,27}$"), AfterValidator(_of_no_shadow)]
"""The name of a source, an asset or a matcher. Triggers and queues have it in their names."""
_TABLE = re.compile(r'(?:(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\.)?(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)')


def _with_schema(table: str) -> str:
    if not _TABLE.fullmatch(table):
        raise ValueError('a table is written as in SQL, such as public.listings or shop."Listing"')
    return table if "." in re.sub(r'"[^"]*"', "", table) else f"public.{table}"


Table = Annotated[str, AfterValidator(_with_schema)]
"""A table of the app, quoted as in SQL; one without a schema is in `public`."""
Expression = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""SQL over the row `t` of the source's table and the row `p` of its parent."""
Column = Annotated[str, StringConstraints(min_length=1)]
Code = Annotated[str, StringConstraints(pattern=r"^\.?[^\W\d]\w*(\.[^\W\d]\w*)+$")]
"""A class of Python, after its module. If it begins with a dot, the module is beside the declarations."""
Columns = Column | Annotated[tuple[Column, ...], Field(min_length=2)]
"""The columns of a key: one, or a list of several."""


def column_count(columns: Columns) -> int:
    return 1 if isinstance(columns, str) else len(columns)


class Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _admit_true(schema: dict[str, Any]) -> None:
    """YAML 1.1 reads the key `on` as true, and the schema must allow that key."""
    schema["required"].remove("on")
    schema["additionalProperties"] = True


class FieldsWithOn(Fields):
    """A declaration with the field `on`."""

    model_config = ConfigDict(json_schema_extra=_admit_true)

    @model_validator(mode="before")
    @classmethod
    def _read_on(cls, values: Any) -> Any:
        if isinstance(values, dict) and True in values:
            return {**{name: value for name, value in values.items() if name is not True}, "on": values[True]}
        return values
