"""Stand-in for the kubelet's device manager and PodResources API."""
