"""`make up` without containers: one declaration per component and a thin driver over supervisor."""
