"""In what order: recipe reader, plan, Prefect flow, command line."""
