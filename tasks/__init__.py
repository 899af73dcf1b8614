"""One module for each state of the flow's state machine, each with one Prefect task."""
