"""What is not the flow: how it is started, served and deployed, and how it reads in a terminal."""
