"""Plain Python that the flow's states work with. It knows nothing of Prefect."""
