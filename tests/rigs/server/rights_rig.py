"""An API key for tests that need one."""

KEY = "0f3a5c7e9b1d2468ace013579bdf8642"
