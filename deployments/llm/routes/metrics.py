"""`GET /metrics`, for Prometheus.

It knows no figure.
"""

from fastapi import APIRouter
from fastapi.responses import Response

from deployments.llm.metrics import Metrics


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route over an application's metrics."""
    router = APIRouter()

    @router.get("/metrics")
    def get_metrics() -> Response:
        return Response(metrics.write(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
