"""The file system as the engine sees it: local paths, http(s) and detectron2:// addresses, cached under one folder.

`PathManager` is one object for the whole engine; projects register their own handlers with it. Downloads lie in
`$FVCORE_CACHE` (iopath's default: ~/.torch/iopath_cache).
"""

from typing import Any

from iopath.common.file_io import HTTPURLHandler, OneDrivePathHandler, PathHandler
from iopath.common.file_io import PathManager as PathManagerBase

__all__ = ["PathHandler", "PathManager"]


class _OfflineAwareHTTPHandler(HTTPURLHandler):
    """Downloads once and caches; a failed download says what to do without a network."""

    def _get_local_path(self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any) -> str:
        try:
            return super()._get_local_path(path, force=force, cache_dir=cache_dir, **kwargs)
        except OSError as error:  # URLError, HTTPError and timeouts are OSErrors
            reason = " ".join(str(error).split())
            raise OSError(
                f"Cannot download {path}: {reason}. Without a network, fetch the file elsewhere and give its local "
                "path instead (for weights: MODEL.WEIGHTS /path/to/file; MODEL.WEIGHTS '' starts from scratch)."
            ) from error


class Detectron2Handler(PathHandler):
    """`detectron2://<suffix>`: files of Detectron2's public model zoo."""

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _url(self, path: str) -> str:
        return self.S3_DETECTRON2_PREFIX + path[len(self.PREFIX) :]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return PathManager.get_local_path(self._url(path), **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs: Any):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager = PathManagerBase()
PathManager.register_handler(_OfflineAwareHTTPHandler())
PathManager.register_handler(OneDrivePathHandler())
PathManager.register_handler(Detectron2Handler())
