"""Continual learning in the interfaces of scikit-learn and of river."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metareplay.errors import INSTALL

if TYPE_CHECKING:
    from metareplay.estimators.river import ContinualRiverClassifier, ContinualRiverRegressor
    from metareplay.estimators.sklearn import ContinualClassifier, ContinualRegressor

__all__ = ["ContinualClassifier", "ContinualRegressor", "ContinualRiverClassifier", "ContinualRiverRegressor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    face = "river" if "River" in name else "sklearn"
    try:
        return getattr(import_module(f"metareplay.estimators.{face}"), name)
    except ModuleNotFoundError as error:
        if error.name != "river":
            raise
        raise ImportError(f"{name} needs river: {INSTALL.format('river')}") from error
