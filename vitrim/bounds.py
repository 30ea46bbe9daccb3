"""The types and bounds that the schemas of all records share; imported where a record is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_CLASSES = 1_000_000
MOST_IMAGES = 1_000_000_000
MOST_EPOCHS = 1_000_000
LARGEST_IMAGE = 16_384

Text = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Images = Annotated[int, Field(ge=0, le=MOST_IMAGES)]
Epoch = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Format = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Loss = float
"""NaN and infinity are what a training that diverged measures"""
Side = Annotated[int, Field(ge=1, le=LARGEST_IMAGE)]
Size = Annotated[list[Side], Field(min_length=2, max_length=2)]
Methods = Annotated[list[Text], Field(max_length=1000)]
Names = Annotated[list[Name], Field(max_length=MOST_CLASSES)]


class Open(BaseModel):
    """A record; keys that are not known are left alone."""

    model_config = ConfigDict(extra="ignore")
