"""What a row's answer is worth: metrics of options and of texts, from values of rows alone. Never imports torch."""

from triptych.metrics.kinds import Metric, metric_of, metrics_of

__all__ = ["Metric", "metric_of", "metrics_of"]
