"""PLACEHOLDER, to be replaced by the author of the launch environment."""

from nid_dist.parallel.launching import Launch


def join(launch: Launch, *, timeout_seconds: float, rendezvous_seconds: float, backend: str | None = None) -> None:
    """Placeholder."""


def leave() -> None:
    """Placeholder."""
