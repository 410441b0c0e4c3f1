"""SmoothQuant (arXiv 2211.10438) of what the norms feed and of what a gated MLP's last layer reads."""

from __future__ import annotations

from typing import Any

# Shares of the range that move into the weights: for what norms feed, and for what a gated MLP's last layer reads.
STRENGTH, LAST_STRENGTH = 0.8, 0.5
_GATE = "re:.*gate_proj"
# down(act(gate(x)) * up(x)): a scale on up's outputs is one on down's inputs, where the largest outliers are.
_LAST_OF_MLP = (["re:.*down_proj"], "re:.*up_proj")


def smoothing() -> Any:
    """Return llm-compressor's SmoothQuant with the gated MLP's last layer among its mappings.

    Ranges are those of what the balanced layers read. For a norm that is its output, as the library has it; what the last
    layer reads is another thing than what `up` puts out.
    """
    import torch
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from llmcompressor.modifiers.transform.smoothquant.base import SmoothQuantScale

    class Smoothing(SmoothQuantModifier):  # type: ignore[misc] # the library is not typed
        def _infer_mappings_from_model(self, model: Any) -> list[Any]:
            found = list(super()._infer_mappings_from_model(model))
            gated = any(_GATE in balanced for balanced, _ in found)
            return [*found, _LAST_OF_MLP] if gated else found

        def _setup_scale_hooks(self) -> None:
            for mapping in self.resolved_mappings_:
                self.register_hook(mapping.balance_layers[0], self._watch(mapping.smooth_name), "forward_pre")

        def _calculate_smoothing_scales(self, balance_layers: list[Any], activation_scales: Any) -> Any:
            smooth = next(m.smooth_layer for m in self.resolved_mappings_ if m.balance_layers is balance_layers)
            self.smoothing_strength = STRENGTH if smooth.weight.ndim == 1 else LAST_STRENGTH
            return super()._calculate_smoothing_scales(balance_layers, activation_scales)

        def _watch(self, name: str) -> Any:
            def see(_module: Any, inputs: tuple[Any, ...]) -> None:
                rows = inputs[0].reshape(-1, inputs[0].shape[-1])
                low, high = rows.amin(0), rows.amax(0)
                known = self.scales_.get(name)
                if known is not None:
                    low, high = torch.minimum(low, known.min_channel_vals), torch.maximum(high, known.max_channel_vals)
                self.scales_[name] = SmoothQuantScale(min_channel_vals=low, max_channel_vals=high)

            return see

    return Smoothing(smoothing_strength=STRENGTH)
