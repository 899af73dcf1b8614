"""What a person looks at in a browser: tables and pages about a run."""
