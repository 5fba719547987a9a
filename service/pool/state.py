"""What a model is doing."""

import enum


class ModelState(enum.Enum):
    """The values are those of the wire's enum without its prefix."""

    UNLOADED = "UNLOADED"
    DOWNLOADING = "DOWNLOADING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"
