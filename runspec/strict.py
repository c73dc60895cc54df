"""The pydantic settings every part of a run file shares: unknown keys are errors, values never change."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of the run file. Field docstrings become the descriptions of the JSON Schema and of the reference."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )
