"""Language models over flat tokens: three stages that are three values of one kind."""
