"""Make one level of an ONNX model with onnxruntime's own tools, in a process of its own: they log and abort at will.

    python -P _onnx_quantizer.py JOB.json

The job has `origin`, `target`, `report` (paths), `level`, `runners` (the folder of runner_io.py and
onnx_sample_set.py), `inputs` (paths of .npz files, none: made up), `dims` and `n_samples`. Imports nothing of melt.
Ends when stdin does, so that it never outlives who started it. The last thing is to load what was made, and to run it
where inputs are known: a file that onnxruntime cannot run is no level.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

_PER_CHANNEL_OPSET = 13
"""DequantizeLinear has an axis since this version; without it depthwise convolutions are not worth quantizing."""

_STATIC_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What has weights. Left to itself the quantizer takes sums, products and norms between them too, which gains little
speed and broke magika: 34 % of files told rightly in place of 91 %."""

_BLOCK_SIZE = 32
_STEPS = 4


def main() -> int:
    """Make the level that the job names; what must be told of it goes into the report."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.insert(0, job["runners"])
    runner_io: Any = import_module("runner_io")
    runner_io.end_with_parent()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(dir=Path(job["target"]).parent) as folder:
            # onnxruntime leaves files of its own where it stands.
            os.chdir(folder)
            report = _make(job, Path(folder))
    except runner_io.Failure as unsuitable:
        raise SystemExit(f"unsuitable: {unsuitable.args[-1]}") from None
    except Exception as error:
        raise SystemExit(f"failed to quantize: {runner_io.first_line(error)}") from error
    Path(job["report"]).write_text(json.dumps(report), encoding="utf-8")
    return 0


def _make(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    _step(1)
    origin, prepared = Path(job["origin"]), folder / "prepared.onnx"
    source = _unfused(origin, prepared) if job["level"] == "int4" else _prepared(origin, prepared, job["level"])
    _step(2)
    target = job["target"]
    if job["level"] == "fp16":
        return _fp16(source, target)
    if job["level"] == "int8-dynamic":
        _dynamic(source, target)
    elif job["level"] == "int8-static":
        return _static(job, source)
    else:
        _int4(source, target)
    _step(3)
    _load(target)
    return {}


def _unfused(origin: Path, prepared: Path) -> Path:
    """Fold constants, but leave matrix products alone: fused with its bias one is a Gemm, which has no int4."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(prepared)
    onnxruntime.InferenceSession(
        str(origin), options, providers=["CPUExecutionProvider"], disabled_optimizers=["MatMulAddFusion"]
    )
    return prepared


def _prepared(origin: Path, prepared: Path, level: str) -> Path:
    """Fold constants and fuse what can be fused, with shapes inferred, as onnxruntime advises before quantizing."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = origin
    if level == "int8-static" and _opset(onnx.load(origin, load_external_data=False)) < _PER_CHANNEL_OPSET:
        source = prepared.with_name("converted.onnx")
        onnx.save(version_converter.convert_version(onnx.load(origin), _PER_CHANNEL_OPSET), source)
    for skip_symbolic in (False, True):
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=skip_symbolic)
            return prepared
        # It tells that shapes stay open by a plain Exception, or an assertion: then only fixed ones are inferred.
        except Exception as error:  # noqa: BLE001
            failed = error
    raise failed


def _opset(model: Any) -> int:
    return next((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)


def _fp16(source: Path, target: str) -> dict[str, Any]:
    """Store weights and compute in 16 bits, inputs and outputs staying as they are."""
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    # onnxruntime's fusion of layer normalisation trips over its own conversions where Pow is in 16 bits.
    for kept in ([], ["Pow"]):
        model = onnx.load(source)
        blocked = [*DEFAULT_OP_BLOCK_LIST, *kept]
        onnx.save(convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked), target)
        _step(3)
        try:
            _load(target)
            return {"kept": kept}
        except Exception as error:  # noqa: BLE001
            failed = error
    raise failed


def _dynamic(source: Path, target: str) -> None:
    """Store weights in 8 bits without a sign, for convolutions have no other kernels; activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), target, weight_type=QuantType.QUInt8)


def _static(job: dict[str, Any], source: Path) -> dict[str, Any]:
    """Store weights in 8 bits with a scale for each channel, and activations by the ranges that the inputs give."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    feeds = _feeds(job, str(source))
    for per_channel in (True, False):
        try:
            quantize_static(
                str(source),
                job["target"],
                _reader(feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=QuantType.QInt8,
                op_types_to_quantize=list(_STATIC_OPERATORS),
                weight_type=QuantType.QInt8,
            )
            _step(3)
            _load(job["target"]).run(None, feeds[0])
            return {"per_channel": per_channel, "n_samples": len(feeds)}
        except Exception as error:  # noqa: BLE001
            failed = error
    raise failed


def _int4(source: Path, target: str) -> None:
    """Store the weights of matrix products in 4 bits, with a scale for each block; activations stay as they are."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=_BLOCK_SIZE, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model, target)


def _feeds(job: dict[str, Any], source: str) -> list[dict[str, Any]]:
    samples, element_type = import_module("onnx_sample_set"), import_module("onnx_inputs").element_type
    declared = [(one.name, element_type(one.type), tuple(one.shape)) for one in _load(source).get_inputs()]
    if job["inputs"]:
        return list(samples.read_samples(job["inputs"], declared)[0])
    return list(samples.made_up(declared, job["dims"], job["n_samples"]))


def _reader(feeds: list[dict[str, Any]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Any:
            return next(self._left, None)

    return Reader()


def _load(path: str) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _step(done: int) -> None:
    os.write(2, f"[{done}/{_STEPS}]\n".encode())


if __name__ == "__main__":
    sys.exit(main())
