"""What the routes share."""

from dataclasses import dataclass, field

from shim.client import Replicas
from shim.config import Config
from shim.gate import Lifecycle


@dataclass(slots=True)
class Context:
    """The state of one app. The replicas are there from its startup on, since channels belong to an event loop."""

    config: Config
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    _replicas: Replicas | None = None

    @property
    def replicas(self) -> Replicas:
        """The service."""
        if self._replicas is None:
            raise RuntimeError("the app has not started")
        return self._replicas

    def connect(self) -> None:
        """Make the channels, on the running event loop."""
        self._replicas = Replicas(self.config.service, self.config.deadline_s)

    async def disconnect(self) -> None:
        """Close the channels."""
        await self.replicas.close()
