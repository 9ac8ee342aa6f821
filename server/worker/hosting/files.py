"""What is wrong with the files that a worker would read, told before a process is started that needs them."""

from __future__ import annotations

from engine.backends.registry import check_model
from engine.clips import FrameFormat, read_clip
from engine.images import read_image
from engine.runtime.segment.continuing import read_video
from server.config import WorkerConfig

ANY = FrameFormat(64, 64, 16)  # of a model that tells its own when it is loaded


def check_files(config: WorkerConfig) -> None:
    """Raises InvalidInput, ModelFilesError."""
    spec = check_model(config.backend, config.model, config.weights)
    screen = ANY if spec is None else FrameFormat(spec.width, spec.height, spec.fps)
    if config.image is not None:
        read_image(config.image, screen.width, screen.height)
    if config.video is not None and spec is not None:
        read_video(config.video, spec)
    elif config.video is not None:
        read_clip(config.video, ANY, least=1, most=1)
