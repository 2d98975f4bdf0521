"""The documents that melt keeps: frozen, versioned, and the same in memory, on disk and in the store.

A run is one runner process: it loads a model once, warms up, then repeats its workload. It begins with a
`RunStart` (what was asked, on what, with what), yields `Stream` declarations and traces, is cut into `Window`s,
summarised as `Metric`s and always ends with a `RunStop` (outcome, verdict, reasons), also when it died.
None means "not measured"; 0 is a measurement.
"""

from __future__ import annotations

from melt.records.artifact import Artifact, ModelTensor
from melt.records.device import Battery, Compute, Cpu, DeviceFacts, Knob
from melt.records.run import (
    FORMAT_VERSION,
    Apart,
    Imported,
    Outcome,
    Reason,
    RunStart,
    RunStop,
    Session,
    TripLimit,
    Verdict,
)
from melt.records.spec import Conditions, Gate, Grid, Inputs, Repeat, RunSpec, Sampling, Settings, Workload
from melt.records.thresholds import Thresholds
from melt.records.trace import Calibration, Metric, Stream, Window

__all__ = [
    "FORMAT_VERSION",
    "Apart",
    "Artifact",
    "Battery",
    "Calibration",
    "Compute",
    "Conditions",
    "Cpu",
    "DeviceFacts",
    "Gate",
    "Grid",
    "Imported",
    "Inputs",
    "Knob",
    "Metric",
    "ModelTensor",
    "Outcome",
    "Reason",
    "Repeat",
    "RunSpec",
    "RunStart",
    "RunStop",
    "Sampling",
    "Session",
    "Settings",
    "Stream",
    "Thresholds",
    "TripLimit",
    "Verdict",
    "Window",
    "Workload",
]
