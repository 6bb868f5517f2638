"""Stand-in for the Kubernetes API server."""
