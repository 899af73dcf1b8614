"""One module for each state of the flow's state machine, each with one Prefect task, and
`artifacts.py`, with what they show in the UI."""
