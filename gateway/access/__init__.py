"""Who may subscribe, publish and configure."""
