"""What each input of a verdict is called: the names that link a figure to the list of inputs, each once."""

from __future__ import annotations

VOLUME = "tokens a month"
MIX = "mix"
TRAFFIC = "traffic"
HEADROOM = "headroom"
FLEET = "fleet"
SPARES = "spare replicas"
OPERATIONS = "operations"
ENGINEERING = "engineering"
STORAGE = "storage"
EGRESS = "egress"
SETUP = "set-up"
FIXED = "fixed cost"
CACHED = "cached input, cache writes, batch"
ELECTRICITY = "electricity"
RATIO = "output over input price"
GROWTH = "growth"
DRIFTS = "price drifts"
DISCOUNT = "discount rate"
HORIZON = "horizon"
PRICE_AGE = "age of prices"
SPREAD = "uncertainty, P10 to P90"
DRAWS = "random draws"
SPOT = "interruptible machines"
TRAINING = "training and use"
VALUE = "value of a unit"


def capacity(run: str) -> str:
    """Name what a replica of a run serves."""
    return f"capacity of {run}"


def power(run: str) -> str:
    """Name what a replica of a run draws."""
    return f"power of {run}"


def rest(run: str) -> str:
    """Name what resting saved on a run."""
    return f"rest of {run}"


def currency(code: str) -> str:
    """Name the rate of a currency."""
    return f"one {code}"


def feature(name: str) -> str:
    """Name a feature of a portfolio."""
    return f"feature {name}"


def lever(name: str, line: str) -> str:
    """Name a lever on a cost line."""
    return f"{name.replace('_', ' ')} on {line}"


def reservation(cloud: str, instance: str, term: str) -> str:
    """Name a machine that could be reserved."""
    return f"{cloud} {instance}, {term}"
