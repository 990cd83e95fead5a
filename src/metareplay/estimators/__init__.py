"""Continual learning in the interfaces of scikit-learn and of river."""

from typing import TYPE_CHECKING, Any

from metareplay.estimators.classifier import ContinualClassifier

if TYPE_CHECKING:
    from metareplay.estimators.river import ContinualRiverClassifier

__all__ = ["ContinualClassifier", "ContinualRiverClassifier"]


def __getattr__(name: str) -> Any:
    if name != "ContinualRiverClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from metareplay.estimators.river import ContinualRiverClassifier
    except ModuleNotFoundError as error:
        if error.name != "river":
            raise
        raise ImportError(f'{name} needs river; install it with: pip install "metareplay[river]"') from error
    return ContinualRiverClassifier
