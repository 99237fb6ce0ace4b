"""What a server holds while it runs: models, engine, counters, received files, and the watch over registries.

service = Service.open(options, tell)
service.draining = True                     # new requests are refused, those accepted go on
service.close()
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from adapter_hub.exchange import Places
from adapter_hub.isolation import isolated
from adapter_hub.reporting import Tell
from adapter_hub.serving.api_errors import Redaction
from adapter_hub.serving.engine import Engine
from adapter_hub.serving.keys import Admission, Keys
from adapter_hub.serving.metrics import Metrics
from adapter_hub.serving.models import Models
from adapter_hub.serving.options import ServingOptions
from adapter_hub.serving.uploads import UploadFolder


@dataclass
class Service:
    """A running server without its sockets.

    Attributes:
        options: how to serve.
        models: what is served.
        engine: that transcribes.
        keys: who is let in; None lets everybody in.
        redacted: takes out of messages what clients must not learn.
        admission: counts requests that are received or wait.
        uploads: where recordings are while they are transcribed.
        metrics: for Prometheus.
        draining: whether it is about to stop.
    """

    options: ServingOptions
    models: Models
    engine: Engine
    keys: Keys | None
    redacted: Redaction
    admission: Admission
    uploads: UploadFolder
    metrics: Metrics
    draining: bool = False
    _closed: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def open(cls, options: ServingOptions, tell: Tell) -> Service:
        """Load what is served and start the engine.

        Args:
            options: how to serve.
            tell: called with every warning, at the start and later.

        Raises:
            AdapterHubError: one line.
        """
        keys = None if options.api_key_file is None else Keys.read(options.api_key_file)
        places = Places(
            options.registry, cache=options.cache, device=options.device, dtype=options.dtype, tell=tell
        )
        models = Models.open(options, places)
        engine = Engine(
            models.base,
            batch_size=options.batch_size,
            max_wait=options.max_wait / 1000,
            most_waiting=options.max_queue,
        )
        admission = Admission(options.max_queue, options.max_per_key)
        uploads = UploadFolder()
        known = {registry.label: "the registry" for registry in models.places.registries()}
        known |= {str(models.places.cache_folder): "the cache", str(uploads.folder): "the upload"}
        service = cls(
            options,
            models,
            engine,
            keys,
            Redaction(known),
            admission,
            uploads,
            Metrics(engine.statistics, models.residents.held, lambda: admission.held),
        )
        threading.Thread(target=service._watch, name="refresh", daemon=True).start()
        return service

    def close(self) -> None:
        """Finish what was accepted, and free everything."""
        self.draining = True
        self._closed.set()
        self.engine.close(drain=True)
        self.uploads.close()

    def _watch(self) -> None:
        """Read the registries again from time to time."""
        while not self._closed.wait(self.options.refresh):
            with isolated("the registries", lambda error: self.models.places.warn(str(error))):
                self.models.refresh()
