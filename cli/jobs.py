"""The newest fine-tuning job of the configured provider, for progress displays.

It knows no training set and no run; a provider that says nothing is no error here.
"""

from typing import Any

import httpx


def list_jobs(base_url: str, api_key: str, *, timeout: float = 5.0) -> list[dict[str, Any]]:
    """At most one job, `message` being its newest event's; empty where the provider can't be asked."""
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        with httpx.Client(base_url=base_url, headers=headers, timeout=timeout, trust_env=False) as http:
            jobs = http.get("fine_tuning/jobs", params={"limit": 1}).raise_for_status().json()["data"][:1]
            for job in jobs:
                path = f"fine_tuning/jobs/{job['id']}/events"
                events = http.get(path, params={"limit": 1}).raise_for_status().json()["data"]
                job["message"] = events[0]["message"] if events else None
            return list(jobs)
    except (httpx.HTTPError, ValueError, KeyError):
        return []
