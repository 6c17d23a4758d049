import inspect

import pytest

from detectron2.utils.develop import create_dummy_class, create_dummy_func


def test_a_class_refuses_its_use_and_not_its_import():
    layer = create_dummy_class("Layer", "compiled_ops", "Compile them.")
    message = r"Cannot import 'compiled_ops', therefore 'Layer' is not available\. Compile them\."
    with pytest.raises(ImportError, match=message):
        layer(3, bias=True)
    with pytest.raises(ImportError, match=message):
        _ = layer.from_config
    child = type("Child", (layer,), {})
    with pytest.raises(ImportError, match=message):
        child()
    assert layer.__name__ == "Layer" and not isinstance(3, layer)
    assert not hasattr(layer, "__wrapped__") and inspect.getdoc(layer).startswith("Cannot import")


def test_a_function_refuses_its_call():
    refused = create_dummy_func("convolve", ["one", "two"])
    assert refused.__name__ == "convolve"
    with pytest.raises(ImportError, match=r"Cannot import 'one, two', therefore 'convolve' is not available\.$"):
        refused(1)
