"""What each scheme is and needs: its groups, its settings, its packages."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.contracts.config.model_quantize import GROUP_SIZES, SCHEMES, QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.scheme_table import MODULES, check, group_note, resolve_group_size

pytestmark = pytest.mark.system


@given(st.integers(16, 256), st.lists(st.integers(1, 40).map(lambda k: k * 32), min_size=1, max_size=3))
def test_a_group_size_divides_every_width_and_is_the_largest_that_a_kernel_has(wanted: int, widths: list[int]) -> None:
    """Users get the closest group size below their wish that engines can run."""
    size = resolve_group_size(wanted, tuple(widths))
    assert size <= wanted
    assert size in GROUP_SIZES
    assert all(width % size == 0 for width in widths)
    assert not [k for k in GROUP_SIZES if size < k <= wanted and all(width % k == 0 for width in widths)]


def test_widths_that_no_kernels_group_divides_are_refused() -> None:
    """A model without any usable group size is rejected with its widths."""
    with pytest.raises(InputError, match=r"no group size up to 128 divides the widths \[40, 48\]"):
        resolve_group_size(128, (48, 40))


@pytest.mark.parametrize(
    ("wanted", "group", "said"), [(128, 64, "does not divide the widths [576, 1536]"), (96, 64, "no kernel has")]
)
def test_a_smaller_group_is_said_with_the_reason(wanted: int, group: int, said: str) -> None:
    """A group size other than the one asked for is noted, for schemes that have groups."""
    assert resolve_group_size(wanted, (576, 1536)) == group
    assert group_note("w4a16", wanted, group, (576, 1536)) == (f"group size {group} instead of {wanted}, which {said}",)
    assert group_note("w8a8", wanted, group, (576, 1536)) == group_note("w4a16", 64, 64, (576, 1536)) == ()


def test_the_widths_of_the_demo_model_resolve_to_64() -> None:
    """The demo model quantizes with the default settings."""
    assert resolve_group_size(128, (576, 1536, 576)) == 64


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_manifest_names_the_library_that_loads_the_weights(scheme: str) -> None:
    """Without the version of transformers a checkpoint could not be reproduced."""
    assert "transformers" in MODULES[scheme][1]


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_zero_points_are_refused_where_there_are_none(scheme: str) -> None:
    """A setting that a scheme cannot honor is rejected instead of ignored."""
    spec = QuantizeSpec(symmetric=False)
    if scheme in ("w4a16", "none"):
        check(scheme, spec)
        return
    with pytest.raises(InputError, match=re.escape(f"{scheme} is symmetric")) as caught:
        check(scheme, spec)
    assert (caught.value.where, "w4a16" in caught.value.remedy) == ("quantize.symmetric", True)
