"""Tasks to try Headway with."""
