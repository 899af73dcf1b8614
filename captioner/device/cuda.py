"""What MLX's CUDA backend needs to multiply quantised weights fast. Knows nothing of captions.

`mlx` is imported inside functions.
"""

from typing import Any

# From so many rows on, one pass over weights in full and cuBLAS beat the quantised product, whose
# tiles are small: a prefill of 2,056 tokens of Qwen3-VL-4B took 55 ms in place of 138 on an H100.
FULL_ROWS = 128
FULL_SHARE = 0.5  # of the memory that is free, for weights in full


def is_cuda() -> bool:
    """Whether MLX computes on an NVIDIA GPU."""
    import mlx.core as mx

    return bool(mx.default_device() == mx.Device(mx.gpu) and mx.cuda.is_available())


def multiply_rows_together(network: Any) -> None:
    """Let the quantised layers of `network` see all rows of a batch as one matrix.

    MLX 0.32's CUDA backend takes an input of shape (rows, 1, width) for as many products of one
    row, and reads all weights for each: a decode step of 16 rows took 41 ms in place of 21.
    Metal sees one matrix there by itself.
    """
    from mlx import nn

    layer = _layer_of_rows()
    for part in network.modules():
        if type(part) is nn.QuantizedLinear:
            part.__class__ = layer  # the same weights, another product


def keep_in_full(network: Any, memory_bytes: int) -> None:
    """Keep the weights of quantised layers in full, as many as a share of what is free allows.

    `memory_bytes` is what the GPU has. One row gains nothing by it.
    """
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_unflatten

    room = FULL_SHARE * (memory_bytes - mx.get_active_memory())
    in_full = []
    for name, part in network.named_modules():
        if isinstance(part, nn.QuantizedLinear):
            needed = part.weight.size * 32 // part.bits * part.scales.itemsize
            if needed <= room:
                room -= needed
                in_full.append((name, _in_full(part)))
    network.update_modules(tree_unflatten(in_full))


def _in_full(part: Any) -> Any:
    import mlx.core as mx
    from mlx import nn

    layer = nn.Linear(1, 1, bias="bias" in part)
    layer.weight = _weights(part)
    if "bias" in part:
        layer.bias = part.bias
    mx.eval(layer.parameters())
    return layer


def _weights(part: Any) -> Any:
    import mlx.core as mx

    return mx.dequantize(
        part.weight,
        part.scales,
        part.get("biases"),
        group_size=part.group_size,
        bits=part.bits,
        mode=part.mode,
    )


def _layer_of_rows() -> Any:
    from mlx import nn

    class RowsTogether(nn.QuantizedLinear):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            rows = x.reshape(-1, x.shape[-1])
            return self._product(rows).reshape(*x.shape[:-1], -1)

        def _product(self, rows: Any) -> Any:
            if len(rows) < FULL_ROWS:
                return super().__call__(rows)
            product = rows @ _weights(self).T
            return product + self.bias if "bias" in self else product

    return RowsTogether
