"""Parts of deploy/image."""
