"""The tests. A package, since sniffpy, which httplint needs, installs one of this name that would come first."""
