"""What MLX's CUDA backend needs to multiply quantised weights fast. Knows nothing of captions.

`mlx` is imported inside functions.
"""

from typing import Any

# From so many rows on, one pass over weights in full and cuBLAS beat the quantised product, whose
# tiles are small: a prefill of 2,056 tokens of Qwen3-VL-4B took 55 ms in place of 138 on an H100.
FULL_ROWS = 128


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


def _layer_of_rows() -> Any:
    import mlx.core as mx
    from mlx import nn

    class RowsTogether(nn.QuantizedLinear):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            rows = x.reshape(-1, x.shape[-1])
            return self._product(rows).reshape(*x.shape[:-1], -1)

        def _product(self, rows: Any) -> Any:
            if len(rows) < FULL_ROWS:
                return super().__call__(rows)
            weights = mx.dequantize(
                self.weight,
                self.scales,
                self.get("biases"),
                group_size=self.group_size,
                bits=self.bits,
                mode=self.mode,
            )
            product = rows @ weights.T
            return product + self.bias if "bias" in self else product

    return RowsTogether
