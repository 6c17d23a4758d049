"""Objects that must survive a trip to another process."""

from typing import Any

import cloudpickle

__all__ = ["PicklableWrapper"]


def _unpack(payload: bytes) -> "PicklableWrapper":
    return PicklableWrapper(cloudpickle.loads(payload))


class PicklableWrapper:
    """Makes any callable or object picklable (closures, lambdas, locally defined classes) and behaves as it does.

    Calls and attribute reads go to the wrapped object.
    """

    def __init__(self, obj: Any):
        while isinstance(obj, PicklableWrapper):
            obj = obj._obj
        self._obj: Any = obj

    def __reduce__(self):
        return _unpack, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args, **kwargs):
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str):
        # Only asked for what the wrapper lacks; "_obj" itself may lack while an instance is being rebuilt.
        if attr == "_obj":
            raise AttributeError(attr)
        return getattr(self._obj, attr)
