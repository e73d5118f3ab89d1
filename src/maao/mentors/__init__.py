"""Whatever suggests restarts: a language model, a person, or a control that needs neither."""
