"""Who takes part: what each one is, how it is got, how it is started."""
